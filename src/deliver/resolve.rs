//! Resolves names, and distinguishes a name that does not exist from a machine that cannot resolve any.

use std::{fs::File, io, net::SocketAddr, net::ToSocketAddrs, thread};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

use crate::machine;

/// The resolver of the system, in one thread per name: tokio's pool of threads panics if no thread can be created.
#[derive(Debug)]
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, looked_up) = oneshot::channel();
        let started = thread::Builder::new().name("http-sink-dns".to_owned()).spawn(move || {
            // The receiver may be gone.
            let _ = found.send(look_up(name.as_str()));
        });
        Box::pin(async move {
            started?;
            let addresses: Addrs = Box::new(looked_up.await??.into_iter());
            Ok(addresses)
        })
    }
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    // The port is set by whoever connects.
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(why) => Err(shortage().unwrap_or(why)),
    }
}

/// The C library only says that a lookup failed if it had no descriptor for `/etc/hosts` or for a socket.
fn shortage() -> Option<io::Error> {
    File::open("/dev/null").err().filter(machine::is_short)
}
