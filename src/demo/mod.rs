//! `vestibule demo`: the whole house on one machine, for a person to click through. No production build has it.
//!
//! A `House` is what runs: an OpenID provider (which tests drive, too), a protected API, Vestibule as the library that
//! the program is, and Caddy in front of a small front end. Everything that Vestibule and Caddy read lies in a `Folder`
//! that ends with the house.

mod api;
mod bearer;
mod caddy;
mod fetch;
mod folder;
mod house;
mod install;
mod port;
pub mod provider;
mod server;
mod trouble;

pub use house::{House, Options};
pub use trouble::Trouble;
