//! The endpoint as a program: reads a configuration, prints `listening on http://127.0.0.1:PORT`
//! on standard output, serves until it is killed. All else is the library's.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::process::ExitCode;

use refreeze_endpoint::{Config, Endpoint, Error};

const USAGE: &str =
    "refreeze-endpoint [--config FILE] [--json TEXT] [--port N] [--threads N] [--latency-ms N]
  --config FILE   configuration as JSON (see refreeze_endpoint::Config); `-` reads standard input
  --json TEXT     the same on the command line
  --port N        default 0: any free port
  --threads N     default 1
  --latency-ms N  before each LIST response, overriding the configuration";

struct Arguments {
    config: Config,
    port: u16,
    threads: usize,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Error> {
    let (mut config, mut port, mut threads, mut latency) = (Config::default(), 0, 1, None);
    let bad = |what: String| Error::Config(format!("{what}\n{USAGE}"));
    let read = |text: &str| {
        serde_json::from_str::<Config>(text).map_err(|problem| Error::Config(problem.to_string()))
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| bad(format!("{word} needs a value")))?;
        let number = || value.parse::<u64>().map_err(|_| bad(format!("{word}: not a number")));
        match word.as_str() {
            "--config" if value == "-" => {
                config = read(&std::io::read_to_string(std::io::stdin())?)?;
            }
            "--config" => config = read(&std::fs::read_to_string(&value)?)?,
            "--json" => config = read(&value)?,
            "--port" => port = u16::try_from(number()?).map_err(|_| bad("--port".into()))?,
            "--threads" => threads = usize::try_from(number()?).unwrap_or(1),
            "--latency-ms" => latency = Some(number()?),
            _ => return Err(bad(format!("unknown option {word}"))),
        }
    }
    if let Some(latency) = latency {
        config.latency_ms = latency;
    }
    Ok(Arguments { config, port, threads })
}

fn main() -> ExitCode {
    let started = parse(std::env::args().skip(1))
        .and_then(|arguments| Endpoint::start(arguments.config, arguments.port, arguments.threads));
    match started {
        Ok(endpoint) => {
            println!("listening on {}", endpoint.url());
            loop {
                std::thread::park();
            }
        }
        Err(problem) => {
            eprintln!("refreeze-endpoint: {problem}");
            ExitCode::from(2)
        }
    }
}
