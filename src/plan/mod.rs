//! Everything that will be done, decided before anything is written. Pure: no I/O, no clock.

pub mod columns;
pub mod tables;
