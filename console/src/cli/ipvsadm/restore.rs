//! `ipvsadm -R`: a command line on each line of standard input.
//!
//! Changes are collected and sent as one batch, so that a restore is one revision of the
//! configuration. What a line prints still comes in the order of the lines: before a line that
//! lists something, and when a line ends the restore, the batch so far is carried out.

/// The longest word; what is longer is cut into words of this length.
const LONGEST_WORD: usize = 4096;

/// The command lines in a text: words between blanks and tabs, without the word `ipvsadm` wherever
/// it stands. Lines without words are left out. Lines end with `\n` or `\r`; there are no quotes and
/// no comments.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Vec<String>> {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let lines = lines.map(|line| {
        let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let words = words.flat_map(|word| word.chunks(LONGEST_WORD));
        let words = words.map(c_string).filter(|word| word != "ipvsadm");
        words.collect::<Vec<_>>()
    });
    lines.filter(|words| !words.is_empty())
}

/// A word as far as its first NUL.
fn c_string(word: &[u8]) -> String {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len());
    String::from_utf8_lossy(&word[..end]).into_owned()
}

/// What `ipvsadm-restore` makes of its input: comment lines go, and so do blank lines at the end.
pub(super) fn without_comments(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        lines(text.as_bytes()).map(|words| words.join("|")).collect()
    }

    #[test]
    fn words_are_split_at_blanks_and_the_program_name_is_skipped() {
        assert_eq!(
            shown("-A -t  a\n\n \t\n ipvsadm\t-C ipvsadm -n\r\nipvsadm\nlast"),
            ["-A|-t|a", "-C|-n", "last"]
        );
        assert_eq!(shown("/sbin/ipvsadm -C # x"), ["/sbin/ipvsadm|-C|#|x"]);
        assert_eq!(shown("'-C'\n-Z\u{b}x\0y"), ["'-C'", "-Z\u{b}x"]);
    }

    #[test]
    fn long_words_are_cut_in_pieces() {
        let lengths: Vec<Vec<usize>> = lines("x".repeat(4097).as_bytes())
            .map(|words| words.iter().map(String::len).collect())
            .collect();
        assert_eq!(lengths, [[4096, 1]]);
    }

    #[test]
    fn only_lines_that_begin_with_a_hash_are_comments() {
        assert_eq!(without_comments(b"# a\n-C # b\n #c\n#"), b"-C # b\n #c\n");
    }
}
