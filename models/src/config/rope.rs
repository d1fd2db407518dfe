//! The settings of rotary position embedding.

use super::ConfigError;
use super::fields::{Fields, describe};

/// Rotary position embedding: interleaved MRoPE over the first `rotary_dim` lanes of each query and key head.
///
/// Lane `f` is paired with `f + rotary_dim / 2`; the pair turns by `position * theta^(-2 f / rotary_dim)`.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Lanes of a head that are rotated: even, at least 2, at most `head_dim`.
    pub rotary_dim: usize,
    /// Frequencies that follow the position in time, height and width; their sum is `rotary_dim / 2`. The axes take
    /// turns (interleaved), so text, whose three positions are equal, does not depend on it.
    pub mrope_section: [usize; 3],
}

/// `share` of the lanes rotate if nothing is said. Reads `rope_parameters`, or the older `rope_scaling` with `rope_theta` and
/// `partial_rotary_factor` beside it.
pub(super) fn read(text: &Fields, head_dim: usize, share: f64) -> Result<RopeConfig, ConfigError> {
    let new = text.object("rope_parameters")?;
    let old = text.object("rope_scaling")?;
    let places: Vec<&Fields> = [new.as_ref(), old.as_ref(), Some(text)].into_iter().flatten().collect();
    let home = places[0];

    for place in &places {
        for field in ["rope_type", "type"] {
            match place.string(field)? {
                None | Some("default") => {}
                // `rope_scaling` called the default with sections by this name.
                Some("mrope") => {}
                Some(other) => return Err(place.unsupported(field, format!("`{other}` instead of `default`"))),
            }
        }
        if place.boolean("mrope_interleaved")? == Some(false) {
            return Err(place.unsupported("mrope_interleaved", "`false`: MRoPE in contiguous sections"));
        }
    }

    let theta = agreed(&places, "rope_theta")?.ok_or_else(|| home.absent("rope_theta", "a positive number"))?;
    let factor = agreed(&places, "partial_rotary_factor")?.unwrap_or(share);
    let lanes = head_dim as f64 * factor;
    if factor > 1.0 || lanes < 2.0 || lanes % 2.0 != 0.0 {
        let expected = format!("a share of at most 1 that leaves an even number of the {head_dim} lanes of `head_dim`");
        return Err(home.wrong("partial_rotary_factor", format_args!("{factor}, which is {lanes} lanes"), expected));
    }
    let rotary_dim = lanes as usize;

    let mut section = None;
    for place in &places {
        if let Some(found) = mrope_section(place, rotary_dim / 2)? {
            if section.is_some_and(|earlier| earlier != found) {
                return Err(place.wrong("mrope_section", format_args!("{found:?}"), "the same section everywhere"));
            }
            section = Some(found);
        }
    }
    // The shares are as even as possible: [11, 11, 10] at the published 32 frequencies.
    let share = |axis: usize| (rotary_dim / 2 + 2 - axis) / 3;
    let mrope_section = section.unwrap_or_else(|| [share(0), share(1), share(2)]);
    for place in [new, old].iter().flatten() {
        place.refuse_unread("")?;
    }
    Ok(RopeConfig { theta, rotary_dim, mrope_section })
}

/// Returns the value of a field that may be in several places, if these agree.
fn agreed(places: &[&Fields], field: &str) -> Result<Option<f64>, ConfigError> {
    let mut agreed = None;
    for place in places {
        match (place.positive_number(field)?, agreed) {
            (Some(found), Some(earlier)) if found != earlier => {
                return Err(place.wrong(field, found, format_args!("{earlier}, as the rope parameters say")));
            }
            (Some(found), _) => agreed = Some(found),
            (None, _) => {}
        }
    }
    Ok(agreed)
}

fn mrope_section(place: &Fields, frequencies: usize) -> Result<Option<[usize; 3]>, ConfigError> {
    let field = "mrope_section";
    let Some(items) = place.array(field)? else { return Ok(None) };
    let [time, height, width] = items else {
        return Err(place.wrong(field, format_args!("{} numbers", items.len()), "three: time, height, width"));
    };
    let mut section = [0; 3];
    for (slot, item) in section.iter_mut().zip([time, height, width]) {
        *slot = item.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= frequencies).ok_or_else(|| {
            place.wrong(field, describe(item), format_args!("numbers up to {frequencies}, half the rotated lanes"))
        })?;
    }
    if section.iter().sum::<usize>() != frequencies {
        let expected = format!("a sum of {frequencies}, half the rotated lanes");
        return Err(place.wrong(field, format_args!("{section:?}"), expected));
    }
    // Height takes the frequencies 1, 4, 7 ..., and width 2, 5, 8 ...: the last of each must exist.
    for (axis, first) in [(1, 1), (2, 2)] {
        if section[axis] > 0 && 3 * (section[axis] - 1) + first >= frequencies {
            let expected = format!("sections that can take turns over {frequencies} frequencies");
            return Err(place.wrong(field, format_args!("{section:?}"), expected));
        }
    }
    Ok(Some(section))
}
