//! Presets with the servers and libraries that they are for, where these are installed: what was sent is there by their own count.
//! Through the built plugin. `.ci/counterparts` installs them; a test whose counterpart is missing says so and checks nothing.

mod clickhouse;
mod libraries;
mod program;
mod servers;
mod time_series;
