use std::sync::mpsc::channel;

use super::*;

fn batches(text: &[u8], most: usize) -> (Vec<Vec<Vec<u8>>>, Input) {
    let mut input = Input::new(io::Cursor::new(text.to_vec()));
    let mut batches = Vec::new();
    while input.advance(most).unwrap() {
        batches.push(input.lines().map(<[u8]>::to_vec).collect());
    }
    (batches, input)
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    batches(text, 2).0.concat()
}

#[test]
fn lines_are_cut_however_they_end() {
    for text in [&b"a\nbc\n"[..], b"a\nbc", b"a\r\nbc\r\n", b"\n\r\na\n\nbc\n\n\n", b"a\nbc\r"] {
        assert_eq!(lines(text), [b"a".to_vec(), b"bc".to_vec()], "{text:?}");
    }
    assert!(lines(b"").is_empty() && lines(b"\n").is_empty());
}

#[test]
fn carriage_returns_can_belong_to_lines() {
    let mut input = Input::new(&b"a\r\n\r\n\nb\r"[..]).with_carriage_returns();
    assert!(input.advance(10).expect("memory can be read"));
    assert_eq!(input.lines().collect::<Vec<_>>(), [&b"a\r"[..], b"\r", b"b\r"]);
    assert_eq!(input.empty_lines(), 1);
}

#[test]
fn other_bytes_pass_as_they_are() {
    let line = b"\xff\xfe\0\r x\t";
    assert_eq!(lines(line), [line.to_vec()]);
}

#[test]
fn batches_are_full_and_counted() {
    let (batches, input) = batches(b"1\n\n2\n3\n4\n5", 2);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!((input.lines_read(), input.empty_lines(), input.bytes()), (6, 1, 10));
    assert!(input.is_complete());
}

#[test]
fn a_line_longer_than_blocks_is_whole() {
    let mut text = vec![b'x'; 3 * BLOCK + 1];
    text.extend_from_slice(b"\ny\n");
    text.extend(vec![b'z'; BLOCK]);
    let found = lines(&text);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3 * BLOCK + 1, 1, BLOCK]);
}

#[test]
fn lines_over_block_borders_are_whole() {
    let expected: Vec<Vec<u8>> = (0..100_000).map(|n| format!("line {n}").into_bytes()).collect();
    let text = expected.join(&b'\n');
    for most in [1000, 1, usize::MAX] {
        assert!(batches(&text, most).0.concat() == expected, "{most}");
    }
}

/// Gives what it is sent, piece by piece.
struct Pieces(Receiver<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.recv().unwrap_or_default();
        target[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

#[test]
fn a_quiet_source_does_not_hold_back_what_came() {
    let (sender, pieces) = channel();
    let mut input = Input::new(Pieces(pieces));
    sender.send(b"1\n2\n3".to_vec()).unwrap();
    assert!(input.advance(1000).unwrap());
    assert_eq!(input.lines().collect::<Vec<_>>(), [b"1", b"2"]);
    sender.send(b"4\n".to_vec()).unwrap();
    assert!(input.advance(1000).unwrap());
    assert_eq!(input.lines().collect::<Vec<_>>(), [b"34"]);
    drop(sender);
    assert!(!input.advance(1000).unwrap() && input.is_complete());
}

#[test]
fn a_stop_ends_the_wait_and_counts_nothing() {
    let (sender, pieces) = channel();
    let mut input = Input::new(Pieces(pieces));
    sender.send(b"1\n2\n".to_vec()).unwrap();
    assert!(input.advance(1).unwrap());
    let stopper = input.stopper();
    let stopping = thread::spawn(move || stopper.stop());
    // The second line may still come before the stop; then nothing does for ever.
    while input.advance(2).unwrap() {}
    stopping.join().unwrap();
    assert!(!input.is_complete() && (1..=2).contains(&input.lines_read()));
    drop(sender);
}

#[test]
fn only_the_lines_that_are_meant_are_handed_out() {
    let text = (1..=20).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat().replace("12\n", "\n");
    let numbers = |selection: &str, limit: Option<u64>| {
        let input = Input::new(io::Cursor::new(text.clone().into_bytes()));
        let mut input = input.with_selection(&selection.parse().unwrap(), limit);
        let mut numbers = Vec::new();
        while input.advance(3).unwrap() {
            let lines: Vec<u64> =
                input.lines().map(|line| std::str::from_utf8(line).unwrap().parse().unwrap()).collect();
            assert_eq!(lines, input.numbers());
            numbers.extend(lines);
        }
        assert!(input.is_complete());
        (numbers, input.lines_read())
    };
    assert_eq!(numbers("18-", None), (vec![18, 19, 20], 20));
    assert_eq!(numbers("2,4-6,11-13", None), (vec![2, 4, 5, 6, 11, 13], 13));
    assert_eq!(numbers("11-", Some(3)), (vec![11, 13, 14], 14));
    assert_eq!(numbers("99-", None), (vec![], 20));
}

#[test]
fn a_source_that_breaks_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    assert_eq!(Input::new(Broken).advance(1).unwrap_err().to_string(), "broken");
}
