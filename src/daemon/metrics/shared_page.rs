//! One rendering of a page for all who wait for it.
//!
//! A rendering serves those who asked before it began. Those who ask meanwhile share the next
//! one, so that each sees every change that was answered before it asked. At most two pages are
//! in memory: if both are still being read, those who wait for a third get it when one is read,
//! or when the older one is withdrawn from readers that are too slow. After each rendering there
//! is a pause of a multiple of its time.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::core::os_error;

/// The number of pages in memory. With ten thousand keys, each has several megabytes.
const MAX_PAGES: usize = 2;

/// The time for which a page is kept for its readers while others wait for a newer one.
const READ_TIME: Duration = Duration::from_secs(5);

/// How much longer than a rendering the pause after it is: with many readers, rotations keep
/// most of the processor.
const PAUSE_FACTOR: u32 = 4;

/// The longest pause between renderings.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Renders the parts of a page.
pub(crate) type RenderPage = Box<dyn Fn() -> Vec<Bytes> + Send + Sync>;

/// A page that is rendered when somebody asks for it.
pub(crate) struct SharedPage {
    renderer: Renderer,
    queue: Mutex<Queue>,
    /// The pages in memory, the oldest first, each with the time at which it was rendered.
    pages: Mutex<VecDeque<(Instant, Weak<RenderedPage>)>>,
    /// When the next page may be rendered.
    next_at: Mutex<Option<Instant>>,
    /// Notified when nobody reads a page any more.
    released: Arc<Notify>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<oneshot::Sender<PageBody>>,
    /// Whether a task renders pages as long as somebody waits.
    is_served: bool,
}

/// A page in memory, as long as somebody reads it.
struct RenderedPage {
    /// None once it is withdrawn.
    parts: Mutex<Option<Vec<Bytes>>>,
    length: u64,
    released: Arc<Notify>,
}

/// A page that is being sent to one reader.
pub(crate) struct PageBody {
    page: Arc<RenderedPage>,
    next_part: usize,
}

/// The reason why a page ends before its last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page was read too slowly, and others waited for a newer one")]
pub(crate) struct PageWithdrawn;

impl SharedPage {
    pub(crate) fn new(render: RenderPage) -> Arc<Self> {
        Arc::new(Self {
            renderer: Renderer::start(render),
            queue: Mutex::default(),
            pages: Mutex::default(),
            next_at: Mutex::default(),
            released: Arc::default(),
        })
    }

    /// Returns a page with everything that was published before the call; none if it could not
    /// be rendered. A caller that is dropped is not rendered for.
    pub(crate) async fn read(self: &Arc<Self>) -> Option<PageBody> {
        let (reply, page) = oneshot::channel();
        let is_served = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(reply);
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            tokio::spawn(Arc::clone(self).serve());
        }
        page.await.ok()
    }

    /// Renders pages until nobody waits for one.
    async fn serve(self: Arc<Self>) {
        while self.is_awaited() {
            self.pause().await;
            self.make_room().await;
            let waiting = std::mem::take(&mut lock(&self.queue).waiting);
            let readers = waiting.len();
            let started_at = Instant::now();
            let Some(parts) = self.renderer.render().await else {
                // The panic was logged. Those who waited are told by the end of their channels.
                continue;
            };
            let rendering = started_at.elapsed();
            let pause = MAX_PAUSE.min(rendering * PAUSE_FACTOR);
            *lock(&self.next_at) = Some(started_at + rendering + pause);
            let page = self.keep(parts);
            tracing::debug!(
                readers,
                bytes = page.length,
                "rendered the metrics for {readers} readers in {} ms",
                rendering.as_millis()
            );
            for reply in waiting {
                // The connection may have ended.
                let _ = reply.send(PageBody {
                    page: Arc::clone(&page),
                    next_part: 0,
                });
            }
        }
    }

    /// Drops those who are gone. Returns whether others still wait; if not, the next one
    /// starts a new task.
    fn is_awaited(&self) -> bool {
        let mut queue = lock(&self.queue);
        queue.waiting.retain(|reply| !reply.is_closed());
        queue.is_served = !queue.waiting.is_empty();
        queue.is_served
    }

    /// Waits until the pause after the last rendering is over.
    async fn pause(&self) {
        let next_at = *lock(&self.next_at);
        if let Some(next_at) = next_at {
            sleep_until(next_at).await;
        }
    }

    /// Waits until one more page may be in memory.
    async fn make_room(&self) {
        while let Some(read_until) = self.room_at() {
            let _ = timeout_at(read_until, self.released.notified()).await;
        }
    }

    /// Returns until when the oldest page is kept for its readers; none if there is room.
    /// Withdraws that page if the time has passed.
    fn room_at(&self) -> Option<Instant> {
        let mut pages = lock(&self.pages);
        pages.retain(|(_, page)| page.strong_count() > 0);
        if pages.len() < MAX_PAGES {
            return None;
        }
        let (rendered_at, oldest) = pages.front()?;
        let read_until = *rendered_at + READ_TIME;
        if read_until > Instant::now() {
            return Some(read_until);
        }
        if let Some(oldest) = oldest.upgrade() {
            oldest.withdraw();
        }
        pages.pop_front();
        None
    }

    fn keep(&self, parts: Vec<Bytes>) -> Arc<RenderedPage> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let page = Arc::new(RenderedPage {
            parts: Mutex::new(Some(parts)),
            length: u64::try_from(length).unwrap_or(u64::MAX),
            released: Arc::clone(&self.released),
        });
        let kept = (Instant::now(), Arc::downgrade(&page));
        lock(&self.pages).push_back(kept);
        page
    }
}

/// A thread that renders pages. The memory of those that were read is used again for the next
/// ones: with several threads, each would keep the memory of its own.
struct Renderer(Option<mpsc::Sender<oneshot::Sender<Vec<Bytes>>>>);

impl Renderer {
    /// Starts the thread, which ends with this value.
    fn start(render: RenderPage) -> Self {
        let (requests, received) = mpsc::channel::<oneshot::Sender<Vec<Bytes>>>();
        let thread = thread::Builder::new().name("metrics".to_owned());
        let started = thread.spawn(move || {
            for reply in received {
                // A panic is logged by the hook. It ends this rendering alone.
                let Ok(parts) = panic::catch_unwind(AssertUnwindSafe(&render)) else {
                    continue;
                };
                // Whoever asked may be gone.
                let _ = reply.send(parts);
            }
        });
        if let Err(error) = &started {
            tracing::error!(
                "cannot start the thread that renders the metrics: {}",
                os_error::describe(error)
            );
        }
        Self(started.is_ok().then_some(requests))
    }

    /// Returns the parts of a new page; none if they could not be
    /// rendered.
    async fn render(&self) -> Option<Vec<Bytes>> {
        let (reply, parts) = oneshot::channel();
        self.0.as_ref()?.send(reply).ok()?;
        parts.await.ok()
    }
}

impl RenderedPage {
    /// Frees the page, except for the parts that are being sent.
    fn withdraw(&self) {
        lock(&self.parts).take();
    }
}

impl Drop for RenderedPage {
    fn drop(&mut self) {
        self.released.notify_one();
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = PageWithdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PageWithdrawn>>> {
        let part = match lock(&self.page.parts).as_ref() {
            Some(parts) => parts.get(self.next_part).cloned().map(Ok),
            None => Some(Err(PageWithdrawn)),
        };
        self.next_part += 1;
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.page.length)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
