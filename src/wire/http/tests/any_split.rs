//! Generated inputs: splitting them changes no result, and none causes a panic.

use super::{bodies::decode, *};
use crate::wire::http::{BodyDecoder, Framing};
use proptest::{collection::vec, prelude::*, sample::Index};

/// The contents of a head, for a comparison.
fn summary(result: Result<Option<(Head, usize)>, Refusal>) -> String {
    match result {
        Ok(None) => "more".to_owned(),
        Err(refusal) => refusal.to_string(),
        Ok(Some((head, consumed))) => {
            let fields: Vec<_> = head.fields("x").map(|value| value.escape_ascii().to_string()).collect();
            format!("{head:?} {:?} {:?} {} {fields:?} {consumed}", head.query(), head.framing, head.keep_alive)
        }
    }
}

/// A head, often a valid one.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let begin = prop_oneof![
        4 => Just("GET /a?b HTTP/1.1\r\nHost: hub\r\n"),
        1 => Just("\r\nPOST /a HTTP/1.0\r\nConnection: keep-alive\r\n"),
        1 => Just("GET /../a HTTP/1.1\r\nHost: hub\r\n"),
        1 => Just("PRI * HTTP/2.0\r\n"),
        1 => Just("GET /a HTTP/1.1\n"),
    ];
    let field = prop_oneof![
        4 => "X: [ -~\t]{0,40}\r\n",
        1 => "Content-Length: [0-9]{1,3}\r\n",
        1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => "[a-zA-Z :\r\n\0]{0,12}",
    ];
    (begin, vec(field, 0..6), prop_oneof![Just("\r\n"), Just("\r\nGET /next"), Just("\n"), Just("")])
        .prop_map(|(begin, fields, end)| [begin, &fields.concat(), end].concat().into_bytes())
}

/// A chunked body, sometimes with an invalid chunk.
fn any_chunks() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        vec(any::<u8>(), 1..40),
        prop_oneof![8 => Just("\r\n"), 1 => Just(";ext=1\r\n"), 1 => Just("\n"), 1 => Just(" \r\n")],
    )
        .prop_map(|(data, end)| [format!("{:x}{end}", data.len()).as_bytes(), &data, b"\r\n"].concat());
    let end = prop_oneof![4 => Just("0\r\n\r\n"), 1 => Just("0\r\nA: b\r\n\r\nrest"), 1 => Just("0\r\nA\r\n\r\n"), 1 => Just("")];
    (vec(chunk, 0..6), end).prop_map(|(chunks, end)| [&chunks.concat(), end.as_bytes()].concat())
}

fn cuts_in(input: &[u8], cuts: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn any_split_of_a_head_gives_the_same_result(input in any_head(), cuts in vec(any::<Index>(), 0..8)) {
        let whole = summary(parse(&input));
        prop_assert_eq!(&summary(parse_in_pieces(&input, cuts_in(&input, &cuts))), &whole);
        prop_assert_eq!(&summary(parse_in_pieces(&input, 0..input.len())), &whole);
    }

    #[test]
    fn any_split_of_chunks_gives_the_same_result(input in any_chunks(), cuts in vec(any::<Index>(), 0..8)) {
        let whole = decode(Framing::Chunked, &[&input], 100);
        let cuts = [vec![0], cuts_in(&input, &cuts), vec![input.len()]].concat();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode(Framing::Chunked, &pieces, 100), whole.clone());
        let single: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(decode(Framing::Chunked, &single, 100), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(input in vec(any::<u8>(), 0..200), begin in 0..3_usize, bytes_max in 0..300_usize) {
        let begin = [&b""[..], b"GET /", b"GET / HTTP/1.1\r\nHost: hub\r\nX"][begin];
        let _ = parse(&[begin, &input].concat());
        for framing in [Framing::None, Framing::Length(100), Framing::Chunked] {
            let mut out = Vec::new();
            let _ = BodyDecoder::new(framing, bytes_max).decode(&input, &mut out);
            prop_assert!(out.len() <= bytes_max.min(input.len()));
        }
    }
}
