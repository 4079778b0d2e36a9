//! Ctrl-C and its kin: the first one cancels what runs in an orderly way, the second one ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rednix_build::CancelToken;

use crate::failure::{EXIT_INTERRUPTED, Failure};

static TOKEN: Mutex<Option<CancelToken>> = Mutex::new(None);
static HANDLED: AtomicBool = AtomicBool::new(false);
static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static SEEN: AtomicBool = AtomicBool::new(false);

/// A flag that signals set, for rooms that look now and then.
pub fn flag() -> Arc<AtomicBool> {
    FLAG.get_or_init(Arc::default).clone()
}

/// The token that signals cancel; the handlers are set when it is first asked for.
pub fn token() -> Result<CancelToken, Failure> {
    let mut current = TOKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let token = match &*current {
        Some(token) => token.clone(),
        None => current.insert(CancelToken::new()?).clone(),
    };
    drop(current);
    handle()?;
    Ok(token)
}

/// Sets the handlers, once.
pub fn handle() -> Result<(), Failure> {
    if HANDLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
        signal_hook::consts::SIGQUIT,
    ])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if SEEN.swap(true, Ordering::SeqCst) {
                rednix_vm::restore_terminal();
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
            flag().store(true, Ordering::SeqCst);
            if let Some(token) = &*TOKEN.lock().unwrap_or_else(PoisonError::into_inner) {
                token.cancel();
            }
        }
    });
    Ok(())
}

/// Forgets a signal, for a program that goes on after it.
pub fn forget() {
    TOKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    SEEN.store(false, Ordering::SeqCst);
    flag().store(false, Ordering::SeqCst);
}
