//! The provider's side against the development provider: real sockets, real keys, and every lie by its number.

mod discovery;
mod id_token;
pub mod keys;
mod login;
mod push;
mod refresh;
mod stage;
mod token;
mod userinfo;
