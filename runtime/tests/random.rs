//! Keys: the same seed, the same numbers, in whatever order they are drawn.

use cotangent::random::Key;

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
fn an_empty_range_is_refused() {
    let key = Key::new(0).unwrap();
    for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0)] {
        assert!(key.uniform(low, high, &[2]).is_err());
    }
}
