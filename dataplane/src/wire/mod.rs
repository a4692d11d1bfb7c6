//! Headers as bytes: where fields are, and checksums.
