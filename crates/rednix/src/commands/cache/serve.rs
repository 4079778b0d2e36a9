//! `rednix cache serve`: the server until Ctrl-C.

use rednix_cache::server::{Patience, Server, ServerConfig};
use rednix_events::Event;

use crate::cli::CacheServeArgs;
use crate::failure::Failure;
use crate::session::Session;
use crate::{interrupt, substituting};

use super::print;

pub fn run(session: &Session, arguments: &CacheServeArgs) -> Result<(), Failure> {
    let config = ServerConfig {
        key: arguments.key.as_deref().map(substituting::secret_key).transpose()?,
        token: arguments.token.as_deref().map(substituting::token).transpose()?,
        accept_unsigned: arguments.accept_unsigned,
        trust: substituting::trust(&session.config)?,
        priority: arguments.priority,
        compress: !arguments.no_compression,
        uploads_bytes_max: arguments.max_uploads,
        patience: Patience::default(),
    };
    let is_open = config.token.is_some() && !arguments.listen.ip().is_loopback();
    let public = config.key.as_ref().map(|key| key.public().to_string());
    // Where nothing is taken, nothing needs to be written.
    let store = if config.token.is_some() { session.store()? } else { session.store_to_read()? };
    let server = Server::bind(store, config, arguments.listen, session.events().clone())
        .map_err(|error| substituting::told(&error).hint("`--listen 127.0.0.1:0` takes a free port"))?;
    let notice = |message: String| session.events().emit(Event::Notice { message });
    if is_open {
        notice("tokens travel unencrypted over HTTP: put a proxy with TLS in front of this".to_owned());
    }
    if let Some(public) = public {
        notice(format!("what was built here is signed; trusted-public-keys: {public}"));
    }
    let address = server.address().map_err(|error| substituting::told(&error))?;
    session.view.finish();
    print(&format!("http://{address}\n"))?;
    interrupt::handle()?;
    server.run(interrupt::flag()).map_err(|error| substituting::told(&error))
}
