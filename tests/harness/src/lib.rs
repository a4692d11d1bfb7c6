//! Hosts as network namespaces: the lab that `viaduct demo` and the end-to-end tests share.

pub mod guest;
