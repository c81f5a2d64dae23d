//! The development provider: an OpenID provider for tests and the demo, loopback only.
