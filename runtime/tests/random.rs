//! Keys: the same seed, the same numbers, in whatever order they are drawn.

use cotangent::random::Key;
use cotangent::{Session, Tensor};

#[test]
fn a_key_always_draws_the_same() {
    let draw = |key: &Key| key.uniform(-1.0, 1.0, &[100]).unwrap().to_vec::<f32>().unwrap();
    let key = Key::new(5).unwrap();
    let first = draw(&key);
    Key::new(6).unwrap().normal(&[3]).unwrap();
    assert_eq!(first, draw(&key));
    assert_eq!(first, draw(&Key::new(5).unwrap()));
    assert_ne!(first, draw(&Key::new(6).unwrap()));
    assert!(first.iter().all(|value| (-1.0..1.0).contains(value)));
}

#[test]
fn split_keys_are_independent() {
    let key = Key::new(5).unwrap();
    let (left, right) = key.split().unwrap();
    let [left, right, whole] = [left, right, key].map(|key| key.normal(&[1000]).unwrap().to_vec::<f32>().unwrap());
    for (one, other) in [(&left, &right), (&left, &whole), (&right, &whole)] {
        let correlation = one.iter().zip(other).map(|(one, other)| one * other).sum::<f32>() / 1000.0;
        assert!(correlation.abs() < 0.15, "{correlation}");
    }
}

#[test]
fn keys_of_other_numbers_are_independent() {
    let key = Key::new(5).unwrap();
    let folded = [0, 1, u32::MAX].map(|number| key.fold(number).unwrap());
    let (left, right) = key.split().unwrap();
    let keys = folded.into_iter().chain([left, right, key]);
    let draws: Vec<Vec<f32>> = keys.map(|key| key.normal(&[1000]).unwrap().to_vec().unwrap()).collect();
    for (index, one) in draws.iter().enumerate() {
        for other in &draws[..index] {
            let correlation = one.iter().zip(other).map(|(one, other)| one * other).sum::<f32>() / 1000.0;
            assert!(correlation.abs() < 0.15, "{correlation}");
        }
    }
}

#[test]
fn dropout_keeps_the_mean_and_is_the_keys() {
    let ones = Tensor::from_slice(&[1.0_f32; 4000], &[40, 100]).unwrap();
    let dropped = |key: u64, probability: f32| {
        let host = (Key::new(key).unwrap(), probability);
        let dropped = Session::new().unwrap().infer(&ones, &ones, &host, |x, _, (key, p)| x.dropout(key, *p));
        dropped.map(|dropped| dropped.to_vec::<f32>().unwrap())
    };
    for probability in [0.0, 0.1, 0.5] {
        let found = dropped(1, probability).unwrap();
        assert!(found.iter().all(|value| *value == 0.0 || *value == 1.0 / (1.0 - probability)));
        let zeros = found.iter().filter(|value| **value == 0.0).count() as f32 / 4000.0;
        assert!((zeros - probability).abs() < 0.03, "{zeros} {probability}");
        assert_eq!(found, dropped(1, probability).unwrap());
        assert_eq!(found == dropped(2, probability).unwrap(), probability == 0.0);
    }
    for probability in [-0.1, 1.0, f32::NAN] {
        assert!(dropped(1, probability).is_err(), "{probability}");
    }
    assert!(Key::new(1).unwrap().mask(1.5, &[2]).is_err());
}

#[test]
fn an_empty_range_is_refused() {
    let key = Key::new(0).unwrap();
    for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0)] {
        assert!(key.uniform(low, high, &[2]).is_err());
    }
}
