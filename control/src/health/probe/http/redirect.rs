//! Where a redirect leads, as long as it stays on the server under test.

use std::net::SocketAddr;

use hyper::http::uri::{Authority, InvalidUri, PathAndQuery};
use hyper::{Method, StatusCode, Uri};

/// What to ask for, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub secure: bool,
    pub address: SocketAddr,
    pub path: PathAndQuery,
    pub method: Method,
}

/// Where a redirect leads.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// To the same server.
    Here(Place),
    /// To another: following it would check the wrong machine.
    Elsewhere(String),
}

impl Place {
    /// The server's address as a Host header has it: without the port that goes without saying.
    pub fn authority(&self) -> Result<Authority, InvalidUri> {
        let usual = if self.secure { 443 } else { 80 };
        let text = match self.address {
            address if address.port() != usual => address.to_string(),
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        Authority::try_from(text)
    }

    /// Follows `location`. `host` is the name that requests carry, when not the address.
    pub fn follow(&self, status: StatusCode, location: &str, host: Option<&str>) -> Next {
        let elsewhere = || Next::Elsewhere(location.to_owned());
        let Some(target) = self.resolve(location) else { return elsewhere() };
        let path = target.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut next = Place { path, method: self.method_after(status), ..self.clone() };
        let Some(authority) = target.authority() else { return Next::Here(next) };
        let named = authority.host();
        let bare = named.trim_start_matches('[').trim_end_matches(']');
        let same = host.is_some_and(|host| host.eq_ignore_ascii_case(named))
            || bare.parse() == Ok(self.address.ip());
        next.secure = match target.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return elsewhere(),
            None => self.secure,
        };
        // A name without a port means the port we are at, unless the scheme changes: the server
        // may listen elsewhere than its clients see.
        let usual = if next.secure { 443 } else { 80 };
        let kept = if next.secure == self.secure { self.address.port() } else { usual };
        next.address.set_port(authority.port_u16().unwrap_or(kept));
        if same { Next::Here(next) } else { elsewhere() }
    }

    /// A location as a URI: whole, or a path relative to this one (RFC 3986 section 5.2, as far
    /// as redirects use it).
    fn resolve(&self, location: &str) -> Option<Uri> {
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            let scheme = if self.secure { "https" } else { "http" };
            return format!("{scheme}:{location}").parse().ok();
        }
        if location.starts_with('/') || location.contains("://") {
            return location.parse().ok();
        }
        if location.starts_with('?') {
            return format!("{}{location}", self.path.path()).parse().ok();
        }
        let folder = self.path.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{}", location.trim_start_matches("./")).parse().ok()
    }

    /// RFC 9110 section 15.4: 303 always, and 301 and 302 after a POST, go on with GET.
    fn method_after(&self, status: StatusCode) -> Method {
        match status.as_u16() {
            303 if self.method != Method::HEAD => Method::GET,
            301 | 302 if self.method == Method::POST => Method::GET,
            _ => self.method.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(method: Method) -> Place {
        Place {
            secure: false,
            address: "10.0.0.11:8080".parse().unwrap(),
            path: PathAndQuery::from_static("/app/login?x=1"),
            method,
        }
    }

    fn follow(location: &str) -> Option<(bool, u16, String)> {
        match place(Method::GET).follow(StatusCode::FOUND, location, Some("www.example.org")) {
            Next::Here(next) => Some((next.secure, next.address.port(), next.path.to_string())),
            Next::Elsewhere(_) => None,
        }
    }

    #[test]
    fn redirects_on_the_same_server_are_followed() {
        let here = |secure, port, path: &str| Some((secure, port, path.to_string()));
        assert_eq!(follow("/home?y=2#top"), here(false, 8080, "/home?y=2"));
        assert_eq!(follow("home"), here(false, 8080, "/app/home"));
        assert_eq!(follow("?z"), here(false, 8080, "/app/login?z"));
        assert_eq!(follow("http://www.example.org/a"), here(false, 8080, "/a"));
        assert_eq!(follow("http://WWW.EXAMPLE.ORG"), here(false, 8080, "/"));
        assert_eq!(follow("http://10.0.0.11:81/a"), here(false, 81, "/a"));
        assert_eq!(follow("https://www.example.org/a"), here(true, 443, "/a"));
        assert_eq!(follow("//www.example.org/a"), here(false, 8080, "/a"));
    }

    #[test]
    fn redirects_to_other_servers_and_schemes_are_not() {
        for location in
            ["http://other.example.org/", "http://10.0.0.12/", "ftp://10.0.0.11/", "http://[bad"]
        {
            assert_eq!(follow(location), None, "{location}");
        }
    }

    #[test]
    fn methods_change_as_the_standard_says() {
        let after = |method: Method, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            place(method).method_after(status).to_string()
        };
        assert_eq!(after(Method::POST, 302), "GET");
        assert_eq!(after(Method::POST, 303), "GET");
        assert_eq!(after(Method::POST, 307), "POST");
        assert_eq!(after(Method::HEAD, 303), "HEAD");
        assert_eq!(after(Method::HEAD, 302), "HEAD");
    }

    #[test]
    fn an_authority_leaves_out_the_usual_port() {
        let text = |secure, address: &str| {
            let address = address.parse().unwrap();
            Place { secure, address, ..place(Method::GET) }.authority().unwrap().to_string()
        };
        assert_eq!(text(false, "10.0.0.1:80"), "10.0.0.1");
        assert_eq!(text(true, "10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(text(true, "[2001:db8::1]:443"), "[2001:db8::1]");
        assert_eq!(text(false, "[2001:db8::1]:8080"), "[2001:db8::1]:8080");
    }

    proptest::proptest! {
        #[test]
        fn any_location_leads_somewhere_or_nowhere(location in ".{0,80}") {
            let _ = place(Method::GET).follow(StatusCode::FOUND, &location, None);
        }
    }
}
