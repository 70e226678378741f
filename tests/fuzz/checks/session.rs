//! A client's input stream: split in any way, it must produce the same actions.

use tokio::time::Instant;

use wafergate::protocol::content::Profile;
use wafergate::protocol::fault::Fault;
use wafergate::tunnel::Action;
use wafergate::tunnel::Session;
use wafergate::tunnel::SessionLimits;

const LIMITS: SessionLimits = SessionLimits { max_message_bytes: 1_000, message_rate: None };

/// The actions of a stream, and how it ends.
fn run<'a>(profile: Profile, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Action>, Result<(), Fault>) {
    let mut session = Session::new(profile);
    let mut actions = vec![];
    let now = Instant::now().into_std();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let result = session.handle_input(&mut piece, &LIMITS, now, &mut |action| actions.push(action));
        let has_ended = result.is_err() || matches!(actions.last(), Some(Action::Goodbye(_)));
        if has_ended {
            return (actions, result);
        }
    }
    (actions, Ok(()))
}

/// Panics where a promise does not hold.
pub(crate) fn check(input: (bool, Vec<u8>, &[u8])) {
    let (is_native, cuts, stream) = input;
    let profile = if is_native { Profile::Native } else { Profile::Wafer };
    let whole = run(profile, std::iter::once(stream));

    let mut rest = stream;
    let mut cuts = cuts.iter();
    let pieces = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut)).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        Some(piece)
    });
    let in_pieces = run(profile, pieces);

    assert_eq!(whole, in_pieces);
}
