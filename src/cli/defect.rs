//! A panic in a command, told as every other error is.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::commands::{Ended, Failed};
use crate::error::{Class, Error, Exit, Fault};

/// What a panic means for the work; where it was, it has said itself on the standard error.
#[derive(Debug, thiserror::Error)]
#[error("that was a defect of pgmove: please report it, with the lines above")]
struct Defect(#[source] Panic);

/// What a panic says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Panic(String);

impl Fault for Defect {
    fn class(&self) -> Class {
        Class::Internal
    }

    fn hint(&self) -> Option<String> {
        Some("a run goes on with --resume; `pgmove status` says what stands".into())
    }
}

/// The error that a panic is.
pub(super) fn error(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::new(Exit::Internal, Defect(Panic(text.unwrap_or_else(|| "a panic without a message".into()))))
}

/// What a command comes to, be it a panic. Nothing that this has left half done is used afterwards.
pub(super) async fn caught(command: impl Future<Output = Result<Ended, Failed>>) -> Result<Ended, Failed> {
    let ended = AssertUnwindSafe(command).catch_unwind().await;
    ended.unwrap_or_else(|panic| Err(error(&*panic).into()))
}
