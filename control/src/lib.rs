//! Who is alive, who is master, what packets should do.

pub mod health;
pub mod vrrp;
