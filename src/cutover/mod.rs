//! What is done outside the target, and undone: the fence of the source.

pub mod fence;
