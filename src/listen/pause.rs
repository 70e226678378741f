//! How long a listener waits until it dials again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
/// Short enough that events come within a second of a network's return.
const LONGEST: Duration = Duration::from_millis(800);
/// Behind so many failures without an answer, ten minutes or more, haste helps no more.
const PATIENT_AFTER: u32 = 600;
/// Then, and for a gateway that answers that it cannot take the connection.
const LONGEST_PATIENT: Duration = Duration::from_secs(5);

/// The pause after `failures` in a row. `was_answered`: the gateway refused, so the network works. `jitter` is a random number from 0 to 1; it
/// shortens the pause by up to half, since all listeners of a gateway lose it at the same moment.
pub(super) fn pause(failures: u32, was_answered: bool, jitter: f64) -> Duration {
    let longest = if was_answered || failures > PATIENT_AFTER { LONGEST_PATIENT } else { LONGEST };
    let doublings = failures.saturating_sub(2).min(16);
    let pause = match failures {
        0 | 1 => Duration::ZERO,
        _ => FIRST.saturating_mul(1 << doublings).min(longest),
    };
    pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_dialled_again_within_a_second_for_ten_minutes() {
        let pauses = |was_answered| [1, 2, 3, 4, 5, 600, 601].map(|n| pause(n, was_answered, 0.0).as_millis());

        assert_eq!(pauses(false), [0, 200, 400, 800, 800, 800, 5_000]);
        assert_eq!(pauses(true), [0, 200, 400, 800, 1_600, 5_000, 5_000]);
        assert_eq!(pause(4, false, 1.0), Duration::from_millis(400));
    }
}
