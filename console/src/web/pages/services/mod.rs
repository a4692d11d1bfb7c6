//! Virtual services and their real servers.

pub mod act;
pub mod list;
pub mod one;

use control::view::RealView;

/// Path of a service's page. Names have characters that paths may not.
pub fn path(name: &str) -> String {
    format!("/services/{}", segment(name))
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape =
        |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(escape).collect()
}

/// The `id` of a real server's row.
pub fn anchor(real: &RealView) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("real-{}", real.address.to_string().chars().map(keep).collect::<String>())
}
