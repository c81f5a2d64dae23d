//! What the store in Redis promises beyond the others: the lease, by every order in which things can happen, and that the
//! scripts in the server are what was explored.

mod explorer;
mod keys;
mod leaving;
mod model;
mod scripts;
