//! How often each client may ask: a bucket of tokens per address. Knows nothing of what is asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{CLIENTS_MAX, REQUESTS_BURST, REQUESTS_PER_SECOND};

#[derive(Default)]
pub struct Rates {
    clients: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rates {
    pub fn allow(&self, client: IpAddr) -> bool {
        self.allow_at(client, Instant::now())
    }

    fn allow_at(&self, client: IpAddr, now: Instant) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client) {
            // Full buckets tell nothing.
            clients.retain(|_, (tokens, at)| filled(*tokens, *at, now) < REQUESTS_BURST);
            if clients.len() >= CLIENTS_MAX {
                clients.clear();
            }
        }
        let (tokens, at) = clients.entry(client).or_insert((REQUESTS_BURST, now));
        let available = filled(*tokens, *at, now);
        *at = now;
        *tokens = if available >= 1.0 { available - 1.0 } else { available };
        available >= 1.0
    }
}

fn filled(tokens: f64, at: Instant, now: Instant) -> f64 {
    (tokens + now.saturating_duration_since(at).as_secs_f64() * REQUESTS_PER_SECOND).min(REQUESTS_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_not() {
        let (rates, start) = (Rates::default(), Instant::now());
        let (one, other) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let allowed = (0..100_000).filter(|_| rates.allow_at(one, start)).count();
        assert_eq!(allowed, REQUESTS_BURST as usize);
        assert!(rates.allow_at(other, start));
        let later = start + Duration::from_secs(1);
        let allowed = (0..100_000).filter(|_| rates.allow_at(one, later)).count();
        assert_eq!(allowed, REQUESTS_PER_SECOND as usize);
    }
}
