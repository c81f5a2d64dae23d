//! What only tests and the demo need: a development provider that runs on loopback. No production build has it.

pub mod provider;
