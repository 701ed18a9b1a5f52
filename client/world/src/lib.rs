//! client/world
