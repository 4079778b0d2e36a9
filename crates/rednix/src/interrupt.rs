//! Ctrl-C and its kin: the first one cancels what runs in an orderly way, the second one ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rednix_build::CancelToken;

use crate::failure::{EXIT_INTERRUPTED, Failure};

static TOKEN: OnceLock<CancelToken> = OnceLock::new();
static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static SEEN: AtomicBool = AtomicBool::new(false);

/// A flag that signals set, for rooms that look now and then.
pub fn flag() -> Arc<AtomicBool> {
    FLAG.get_or_init(Arc::default).clone()
}

/// The token that signals cancel; the handlers are set when it is first asked for.
pub fn token() -> Result<CancelToken, Failure> {
    if let Some(token) = TOKEN.get() {
        return Ok(token.clone());
    }
    let token = CancelToken::new()?;
    let token = TOKEN.get_or_init(|| token).clone();
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ])?;
    let handled = token.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if SEEN.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
            flag().store(true, Ordering::SeqCst);
            handled.cancel();
        }
    });
    Ok(token)
}
