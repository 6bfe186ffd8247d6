//! Lines of a file or of stdin, in batches, without a copy of each line.
//!
//! A thread reads blocks; [`Input`] joins them in one buffer that the lines of a batch point into. It takes the memory of one
//! batch and a few blocks, however long the input is.

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
/// How long a batch that is not full waits for more input.
const LINGER: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Event {
    Block(Vec<u8>),
    End,
    Failed(io::Error),
    /// Check whether it is over.
    Wake,
}

/// Ends an input from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    stopped: Arc<AtomicBool>,
    events: SyncSender<Event>,
}

impl Stopper {
    /// Makes the present batch the last one.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        // If the queue is full, nobody is waiting for it.
        let _ = self.events.try_send(Event::Wake);
    }
}

/// The selected lines, in batches. A line ends with LF or CRLF, which do not belong to it; empty lines are skipped and
/// counted.
#[derive(Debug)]
pub(crate) struct Input {
    events: Receiver<Event>,
    stopper: Stopper,
    /// A carriage return before the end of a line belongs to the line.
    carriage_returns: bool,
    buffer: Vec<u8>,
    /// Where the current batch begins in the buffer, and its size in bytes.
    base: usize,
    taken: usize,
    lines: Vec<Range<usize>>,
    /// The number of each of them, from 1 on.
    numbers: Vec<u64>,
    /// The selected lines.
    selection: Cursor,
    /// How many more lines may be returned.
    left: u64,
    /// Whether the input has ended.
    ended: bool,
    /// The lines of all batches so far.
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

    /// Lets only LF end a line: for bytes, of which none must be lost.
    pub(crate) fn with_carriage_returns(self) -> Self {
        Self { carriage_returns: true, ..self }
    }

    /// Returns only these lines, and at most `limit` of them.
    pub(crate) fn with_selection(self, selection: &Selection, limit: Option<u64>) -> Self {
        Self { selection: selection.cursor(), left: limit.unwrap_or(u64::MAX), ..self }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Advances to the next batch of at most this many lines. Returns false at the end, or once it is stopped.
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
            // Lines that were not returned count as not read.
            self.lines.clear();
            self.numbers.clear();
            if !self.is_complete() {
                (self.lines_read, self.empty_lines, self.bytes) = before;
            }
        }
        self.left -= self.lines.len() as u64;
        filled.map(|_| !self.lines.is_empty())
    }

    /// Collects lines until there are `most`, or no more at the moment. Returns false once it is stopped.
    fn fill(&mut self, most: usize) -> io::Result<bool> {
        // Both count from `base`, which moves when the buffer is filled up.
        let (mut line_start, mut scanned) = (0, 0);
        loop {
            if self.stopper.stopped.load(SeqCst) {
                return Ok(false);
            }
            if self.lines.is_empty() {
                // Skipped lines need not be kept.
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
                // The last line may have no end.
                scanned = line_start;
            } else if !self.wait()? {
                break;
            }
        }
        self.taken = line_start;
        Ok(true)
    }

    /// Collects the complete lines of the buffer from `line_start` on; there is no line end before `scanned`.
    fn scan(&mut self, most: usize, line_start: &mut usize, scanned: &mut usize) {
        let rest = &self.buffer[self.base..];
        while self.lines.len() < most && *scanned < rest.len() && !self.selection.ends_at(self.lines_read) {
            let end = match memchr(b'\n', &rest[*scanned..]) {
                Some(index) => *scanned + index,
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

    /// Waits for input: without limit, unless there is something to return. Returns false if it waited in vain.
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

    /// Whether all selected lines were returned.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_over() || self.ended && self.base + self.taken == self.buffer.len()
    }

    /// Whether no selected line is left.
    fn is_over(&self) -> bool {
        self.left == 0 || self.selection.ends_at(self.lines_read)
    }

    /// The number of lines up to the end of the current batch, including empty and skipped ones.
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
mod tests;
