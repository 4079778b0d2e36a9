//! The server's half of DHCP, as far as a guest needs it to get an address: discover is offered, request is
//! acknowledged. Every card has one address for ever, so there is nothing to remember and nothing to release.

use std::net::Ipv4Addr;

use super::{GATEWAY, NETMASK};

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;

/// Operation to boot file name; options follow after four more bytes.
const HEADER: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Old clients take no message that is shorter.
const LENGTH_MIN: usize = 300;
const LEASE_S: u32 = 24 * 3600;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACKNOWLEDGE: u8 = 5;
const REFUSE: u8 = 6;

mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const NAME_SERVER: u8 = 6;
    pub const REQUESTED: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const END: u8 = 255;
}

/// The answer to a client's message, giving it `lease`; none where it wants none or is no such message.
pub fn answer(message: &[u8], lease: Ipv4Addr) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    // A request of a card with a six-byte address.
    if header[..3] != [1, 1, 6] || message.get(HEADER..HEADER + 4)? != MAGIC {
        return None;
    }
    let options = Options::read(&message[HEADER + 4..]);
    if options.server.is_some_and(|server| server != GATEWAY) {
        return None;
    }
    let kind = match options.kind? {
        DISCOVER => OFFER,
        REQUEST => {
            let current = Ipv4Addr::from(<[u8; 4]>::try_from(&header[12..16]).ok()?);
            let wanted = options.requested.unwrap_or(current);
            if wanted == lease || wanted.is_unspecified() { ACKNOWLEDGE } else { REFUSE }
        }
        _ => return None,
    };
    let given = if kind == REFUSE { Ipv4Addr::UNSPECIFIED } else { lease };
    let mut reply = vec![2, 1, 6, 0];
    // Transaction; then no seconds, the client's flags; no client address.
    reply.extend(&header[4..8]);
    reply.extend([0, 0, header[10], header[11], 0, 0, 0, 0]);
    reply.extend(given.octets());
    // The next server, and no relay.
    reply.extend(GATEWAY.octets());
    reply.extend([0; 4]);
    reply.extend(&header[28..44]);
    reply.resize(HEADER, 0);
    reply.extend(MAGIC);
    reply.extend([option::KIND, 1, kind]);
    reply.extend([option::SERVER, 4]);
    reply.extend(GATEWAY.octets());
    if kind != REFUSE {
        reply.extend([option::LEASE, 4]);
        reply.extend(LEASE_S.to_be_bytes());
        for (name, address) in
            [(option::MASK, NETMASK), (option::ROUTER, GATEWAY), (option::NAME_SERVER, GATEWAY)]
        {
            reply.extend([name, 4]);
            reply.extend(address.octets());
        }
    }
    reply.push(option::END);
    reply.resize(reply.len().max(LENGTH_MIN), 0);
    Some(reply)
}

#[derive(Debug, Default)]
struct Options {
    kind: Option<u8>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

impl Options {
    fn read(mut bytes: &[u8]) -> Options {
        let mut options = Options::default();
        while let Some((&name, rest)) = bytes.split_first() {
            if name == option::PAD {
                bytes = rest;
                continue;
            }
            let Some((&length, rest)) = rest.split_first().filter(|_| name != option::END) else { break };
            let Some((value, rest)) = rest.split_at_checked(length.into()) else { break };
            let address = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
            match name {
                option::KIND => options.kind = value.first().copied(),
                option::REQUESTED => options.requested = address(),
                option::SERVER => options.server = address(),
                _ => {}
            }
            bytes = rest;
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 12);

    fn message(options: &[u8]) -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef];
        message.resize(28, 0);
        message.extend([0x52, 0x54, 0, 0x77, 0, 12]);
        message.resize(HEADER, 0);
        message.extend(MAGIC);
        message.extend(options);
        message
    }

    fn kind(reply: &[u8]) -> u8 {
        Options::read(&reply[HEADER + 4..]).kind.unwrap()
    }

    #[test]
    fn a_card_gets_its_address() {
        let offer = answer(&message(&[53, 1, DISCOVER, 255]), LEASE).unwrap();
        assert_eq!((kind(&offer), &offer[16..20]), (OFFER, &LEASE.octets()[..]));
        assert_eq!(offer[4..8], [0xde, 0xad, 0xbe, 0xef], "the transaction is the client's");
        assert_eq!(offer[28..34], [0x52, 0x54, 0, 0x77, 0, 12]);
        assert!(offer.len() >= LENGTH_MIN);
        let mut wants = vec![0, 53, 1, REQUEST, 50, 4];
        wants.extend(LEASE.octets());
        wants.push(255);
        assert_eq!(kind(&answer(&message(&wants), LEASE).unwrap()), ACKNOWLEDGE);
    }

    #[test]
    fn another_address_is_refused_and_another_server_is_left_alone() {
        let refused = answer(&message(&[53, 1, REQUEST, 50, 4, 10, 0, 2, 15, 255]), LEASE).unwrap();
        assert_eq!((kind(&refused), &refused[16..20]), (REFUSE, &[0; 4][..]));
        assert_eq!(answer(&message(&[53, 1, REQUEST, 54, 4, 10, 0, 2, 2, 255]), LEASE), None);
        // A release, a message without a kind, no message at all.
        for options in [&[53, 1, 7, 255][..], &[255], &[53], &[53, 200, 1]] {
            assert_eq!(answer(&message(options), LEASE), None, "{options:?}");
        }
        assert_eq!(answer(&[1; 100], LEASE), None);
    }

    proptest! {
        #[test]
        fn no_message_stops_it(options in prop::collection::vec(any::<u8>(), 0..100), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = answer(&bytes, LEASE);
            let _ = answer(&message(&options), LEASE);
        }
    }
}
