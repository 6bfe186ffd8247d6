//! `iggy-http-sink`: hosts the HTTP sink without the Iggy connectors runtime, and checks its connector files.
//!
//! Each command is a module: [`demo`], [`run`] with its input from [`iggy`] or from lines, [`check`], [`preview`], [`init`],
//! [`dead_letters`], [`spool`], [`mod@schema`], [`mod@bench`], and what other programs know of this one ([`shell`]). They
//! share the access to the plugin ([`host`]), the [`connector_file`] with the location of each key and the environment
//! overrides, and the [`terminal`]: results, log and signals.

mod bench;
mod check;
mod connector_file;
mod dead_letters;
mod demo;
mod host;
mod iggy;
mod init;
mod mode;
mod preview;
mod run;
mod schema;
mod shell;
mod since;
mod spool;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::terminal::{
    log,
    report::{self, Failure},
};

#[derive(Debug, Parser)]
#[command(
    name = "iggy-http-sink",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Example:\n  iggy-http-sink demo"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: log::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Check(check::Arguments),
    Preview(preview::Arguments),
    Init(init::Arguments),
    DeadLetters(dead_letters::Arguments),
    Spool(spool::Arguments),
    Schema(schema::Arguments),
    Bench(bench::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
    /// Measures one plugin in a process of its own, for `bench`
    #[command(hide = true)]
    BenchWorker,
}

fn main() -> ExitCode {
    // One cryptographic provider in the process, before Iggy's client would choose another. This only fails if there is one
    // already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Arguments { command, log } = Arguments::parse();
    log.apply();
    let outcome = match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Preview(arguments) => preview::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments),
        Command::Spool(arguments) => spool::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => shell::man(&arguments, Arguments::command()),
        Command::BenchWorker => bench::worker::run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            if !matches!(failure, Failure::Reported) {
                report::complain(&failure.to_string());
            }
            match failure {
                Failure::Usage(_) | Failure::Reported => ExitCode::from(2),
                Failure::Unreachable | Failure::Start(_) => ExitCode::from(3),
                Failure::Other(_) => ExitCode::FAILURE,
            }
        }
    }
}
