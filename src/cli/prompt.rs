//! The prompt for a password: without echo, and given up at an interrupt, with the terminal as it was before.

use std::fs::File;
use std::io::ErrorKind;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::run::Interrupted;

/// Asks on the terminal; `None` where nothing is typed, or there is no terminal to ask on.
pub(super) async fn password(
    question: String,
    stop: &CancellationToken,
) -> Result<Option<SecretString>, Interrupted> {
    let terminal = File::open("/dev/tty").ok();
    let before = terminal.as_ref().and_then(|terminal| tcgetattr(terminal).ok());
    let (sender, answer) = oneshot::channel();
    // Nothing ends it but an answer, so it is left to the end of the process where a signal comes instead.
    std::thread::spawn(move || sender.send(rpassword::prompt_password(question)));
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            if let (Some(terminal), Some(before)) = (&terminal, &before) {
                let _ = tcsetattr(terminal, OptionalActions::Now, before);
            }
            Err(Interrupted)
        }
        answer = answer => match answer {
            Ok(Ok(password)) if !password.is_empty() => Ok(Some(SecretString::from(password))),
            // Ctrl-C, which is no signal while the prompt stands.
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => Err(Interrupted),
            _ => Ok(None),
        },
    }
}
