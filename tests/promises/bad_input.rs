//! Bad input gets a typed error that says what to do, changes nothing, and harms nobody else. One test per kind.

mod addresses;
mod bodies;
mod bystander;
mod elastic;
mod json;
mod models;
mod versions;
