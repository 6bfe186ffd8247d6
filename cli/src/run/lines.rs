//! Lines of a file or of stdin, in batches, without a copy of its own for each line.
//!
//! A thread reads blocks; [`Input`] joins them in one buffer that the lines of a batch point into. Memory is that of
//! one batch and of a few blocks, however long the input is.

use std::{
    io::{self, Read},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use memchr::memchr;

use super::selection::{Cursor, Selection};

const BLOCK: usize = 256 << 10;
/// Blocks read ahead.
const AHEAD: usize = 4;
/// A batch that is not full is not held back longer than this for want of input.
const LINGER: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Event {
    Block(Vec<u8>),
    End,
    Failed(io::Error),
    /// Look whether it is over.
    Wake,
}

/// Ends an input from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    stopped: Arc<AtomicBool>,
    events: SyncSender<Event>,
}

impl Stopper {
    /// The batch that is out is the last one.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        // Where the queue is full, nobody waits at it.
        let _ = self.events.try_send(Event::Wake);
    }
}

/// Lines in batches, those that are meant. A line ends with LF or CRLF, which do not belong to it; empty ones are left out
/// and counted.
#[derive(Debug)]
pub(crate) struct Input {
    events: Receiver<Event>,
    stopper: Stopper,
    /// A carriage return before the end of a line belongs to the line.
    carriage_returns: bool,
    buffer: Vec<u8>,
    /// Where the current batch begins in the buffer, and how many bytes it takes.
    base: usize,
    taken: usize,
    lines: Vec<Range<usize>>,
    /// The number of each of them, from 1 on.
    numbers: Vec<u64>,
    /// Which lines are meant.
    selection: Cursor,
    /// How many more lines may be handed out.
    left: u64,
    /// Nothing more comes.
    ended: bool,
    /// Of all batches so far.
    lines_read: u64,
    empty_lines: u64,
    bytes: u64,
}

impl Input {
    pub(crate) fn new(mut source: impl Read + Send + 'static) -> Self {
        let (sender, events) = sync_channel(AHEAD);
        let stopper = Stopper { stopped: Arc::default(), events: sender.clone() };
        thread::spawn(move || {
            loop {
                let mut block = vec![0; BLOCK];
                let event = match source.read(&mut block) {
                    Ok(0) => Event::End,
                    Ok(len) => {
                        block.truncate(len);
                        Event::Block(block)
                    }
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                    Err(why) => Event::Failed(why),
                };
                let last = !matches!(event, Event::Block(_));
                if sender.send(event).is_err() || last {
                    return;
                }
            }
        });
        Self {
            events,
            stopper,
            carriage_returns: false,
            buffer: Vec::new(),
            base: 0,
            taken: 0,
            lines: Vec::new(),
            numbers: Vec::new(),
            selection: Selection::default().cursor(),
            left: u64::MAX,
            ended: false,
            lines_read: 0,
            empty_lines: 0,
            bytes: 0,
        }
    }

    /// Lets only LF end a line: for bytes, of which none is to be lost.
    pub(crate) fn with_carriage_returns(self) -> Self {
        Self { carriage_returns: true, ..self }
    }

    /// Hands out these lines alone, and no more than `limit` of them.
    pub(crate) fn with_selection(self, selection: &Selection, limit: Option<u64>) -> Self {
        Self { selection: selection.cursor(), left: limit.unwrap_or(u64::MAX), ..self }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Goes on to the next batch of at most this many lines. False at the end, or once it is stopped.
    ///
    /// # Errors
    /// The input cannot be read any further.
    pub(crate) fn advance(&mut self, most: usize) -> io::Result<bool> {
        self.base += std::mem::take(&mut self.taken);
        self.lines.clear();
        self.numbers.clear();
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let before = (self.lines_read, self.empty_lines, self.bytes);
        let filled = self.fill(most);
        if !matches!(filled, Ok(true)) {
            // What was not handed out counts as not read.
            self.lines.clear();
            self.numbers.clear();
            if !self.is_complete() {
                (self.lines_read, self.empty_lines, self.bytes) = before;
            }
        }
        self.left -= self.lines.len() as u64;
        filled.map(|_| !self.lines.is_empty())
    }

    /// Takes lines until there are `most`, or no more at the moment. False once it is stopped.
    fn fill(&mut self, most: usize) -> io::Result<bool> {
        // Both count from `base`, which moves when the buffer is filled up.
        let (mut line_start, mut scanned) = (0, 0);
        loop {
            if self.stopper.stopped.load(SeqCst) {
                return Ok(false);
            }
            if self.lines.is_empty() {
                // What is left out need not be kept.
                scanned -= line_start;
                self.base += std::mem::take(&mut line_start);
            }
            self.scan(most, &mut line_start, &mut scanned);
            if self.lines.len() >= most
                || self.is_over()
                || self.ended && self.base + line_start == self.buffer.len()
            {
                break;
            }
            if self.ended {
                // The last line has no end of its own.
                scanned = line_start;
            } else if !self.wait()? {
                break;
            }
        }
        self.taken = line_start;
        Ok(true)
    }

    /// Takes the lines of the buffer from `line_start` on that are whole, of which `scanned` has no end of one before.
    fn scan(&mut self, most: usize, line_start: &mut usize, scanned: &mut usize) {
        let rest = &self.buffer[self.base..];
        while self.lines.len() < most && *scanned < rest.len() && !self.selection.ends_at(self.lines_read) {
            let end = match memchr(b'\n', &rest[*scanned..]) {
                Some(place) => *scanned + place,
                None if self.ended => rest.len(),
                None => {
                    *scanned = rest.len();
                    return;
                }
            };
            let line = &rest[*line_start..end];
            let ending = usize::from(!self.carriage_returns && line.ends_with(b"\r"));
            let len = line.len() - ending;
            self.lines_read += 1;
            let is_meant = self.selection.takes(self.lines_read);
            if is_meant && len == 0 {
                self.empty_lines += 1;
            } else if is_meant {
                self.lines.push(*line_start..*line_start + len);
                self.numbers.push(self.lines_read);
            }
            let next = rest.len().min(end + 1);
            self.bytes += (next - *line_start) as u64;
            *line_start = next;
            *scanned = next;
        }
    }

    /// Waits for input: for ever, unless there is something to hand out. False when it waited in vain.
    fn wait(&mut self) -> io::Result<bool> {
        let event = if self.lines.is_empty() {
            self.events.recv().unwrap_or(Event::End)
        } else {
            match self.events.recv_timeout(LINGER) {
                Ok(event) => event,
                Err(_) => return Ok(false),
            }
        };
        match event {
            Event::Block(block) => {
                self.buffer.drain(..std::mem::take(&mut self.base));
                self.buffer.extend_from_slice(&block);
            }
            Event::End => self.ended = true,
            Event::Failed(why) => return Err(why),
            Event::Wake => {}
        }
        Ok(true)
    }

    /// The lines of the current batch.
    pub(crate) fn lines(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let batch = &self.buffer[self.base..];
        self.lines.iter().map(|line| &batch[line.clone()])
    }

    /// The number of each of them, from 1 on; ascending.
    pub(crate) fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// Whether all of it was handed out that is meant.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_over() || self.ended && self.base + self.taken == self.buffer.len()
    }

    /// Whether no line is meant any more.
    fn is_over(&self) -> bool {
        self.left == 0 || self.selection.ends_at(self.lines_read)
    }

    /// Lines up to the end of the current batch, empty and left out ones too.
    pub(crate) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    pub(crate) fn empty_lines(&self) -> u64 {
        self.empty_lines
    }

    /// Bytes up to the end of the current batch.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
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
        let text = (1..=20).map(|n| format!("{n}\n")).collect::<String>().replace("12\n", "\n");
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
}
