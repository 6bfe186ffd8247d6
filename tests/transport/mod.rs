//! How requests get there: connections, their protocol, whom they trust and which way they take. Through the built plugin.

mod connections;
mod health_check;
mod http2;
#[cfg(unix)]
mod nginx_tls;
#[cfg(unix)]
mod proxy;
mod tls;
