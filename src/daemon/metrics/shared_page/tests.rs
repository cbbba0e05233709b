//! How many pages are rendered and kept, counted: no test fails where anything takes longer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::task::{JoinSet, yield_now};

use super::*;

/// A page whose renderings are counted, and begin when the test lets them.
struct CountedPage {
    page: Arc<SharedPage>,
    begun: Arc<AtomicUsize>,
    permits: mpsc::Sender<()>,
}

impl CountedPage {
    fn new() -> Self {
        let (permits, permitted) = mpsc::channel();
        let permitted = Mutex::new(permitted);
        let begun = Arc::new(AtomicUsize::new(0));
        let page = SharedPage::new({
            let begun = Arc::clone(&begun);
            Box::new(move || {
                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                lock(&permitted).recv().unwrap();
                vec!["page ".into(), format!("{number}\n").into()]
            })
        });
        Self {
            page,
            begun,
            permits,
        }
    }

    /// Waits until a rendering has begun.
    async fn wait_for(&self, number: usize) {
        while self.begun.load(Ordering::SeqCst) < number {
            yield_now().await;
        }
    }

    /// Adds `count` readers, and waits until they wait.
    async fn add_readers(&self, readers: &mut JoinSet<PageBody>, count: usize) {
        for _ in 0..count {
            let page = Arc::clone(&self.page);
            readers.spawn(async move { page.read().await.unwrap() });
        }
        for _ in 0..=count {
            yield_now().await;
        }
    }

    /// Returns a page for one reader.
    async fn read(&self) -> PageBody {
        self.permits.send(()).unwrap();
        self.page.read().await.unwrap()
    }
}

async fn text(body: PageBody) -> Result<String, axum::Error> {
    let body = axum::body::Body::new(body);
    let bytes = axum::body::to_bytes(body, usize::MAX).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Those who ask while a page is rendered share the next one: the present one may lack what
/// was published before they asked.
#[tokio::test]
async fn one_rendering_serves_all_who_wait() {
    let counted = CountedPage::new();
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    counted.add_readers(&mut first, 60).await;
    counted.wait_for(1).await;
    counted.add_readers(&mut second, 60).await;
    for _ in 0..2 {
        counted.permits.send(()).unwrap();
    }
    for (readers, expected) in [(first, "page 1\n"), (second, "page 2\n")] {
        for body in readers.join_all().await {
            assert_eq!(text(body).await.unwrap(), expected);
        }
    }
    assert_eq!(counted.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nothing_is_rendered_for_readers_that_are_gone() {
    let counted = CountedPage::new();
    let (mut first, mut gone) = (JoinSet::new(), JoinSet::new());
    counted.add_readers(&mut first, 1).await;
    counted.wait_for(1).await;
    counted.add_readers(&mut gone, 60).await;
    gone.shutdown().await;
    counted.permits.send(()).unwrap();
    let body = first.join_next().await.unwrap().unwrap();
    assert_eq!(text(body).await.unwrap(), "page 1\n");
    // The next one is the second rendering. A third one would be permitted, too.
    counted.permits.send(()).unwrap();
    assert_eq!(text(counted.read().await).await.unwrap(), "page 2\n");
}

/// A slow reader keeps one page in memory, and is cut off when another page is needed.
#[tokio::test(start_paused = true)]
async fn slow_readers_keep_two_pages_at_most() {
    let counted = CountedPage::new();
    let (slowest, slow) = (counted.read().await, counted.read().await);
    let started_at = Instant::now();
    let third = counted.read().await;
    assert!(started_at.elapsed() >= READ_TIME, "the oldest had its time");
    assert_eq!(text(third).await.unwrap(), "page 3\n");
    text(slowest).await.unwrap_err();
    // The third page was read, so there is room.
    let started_at = Instant::now();
    assert_eq!(text(counted.read().await).await.unwrap(), "page 4\n");
    assert!(started_at.elapsed() < READ_TIME);
    assert_eq!(text(slow).await.unwrap(), "page 2\n");
}

/// A failed rendering leaves its readers without a page, and the next ones get theirs.
#[tokio::test]
async fn failed_rendering_is_no_last_one() {
    let is_first = AtomicUsize::new(0);
    let page = SharedPage::new(Box::new(move || {
        assert_ne!(is_first.fetch_add(1, Ordering::SeqCst), 0, "the first one");
        vec!["page\n".into()]
    }));
    assert!(page.read().await.is_none());
    assert_eq!(text(page.read().await.unwrap()).await.unwrap(), "page\n");
}

/// With many readers, a page that takes long to render leaves most of the processor to others.
#[tokio::test]
async fn a_pause_follows_each_rendering() {
    let rendering = Duration::from_millis(50);
    let page = SharedPage::new(Box::new(move || {
        std::thread::sleep(rendering);
        vec!["page\n".into()]
    }));
    let started_at = Instant::now();
    for _ in 0..3 {
        page.read().await.unwrap();
    }
    assert!(started_at.elapsed() >= rendering * (3 + 2 * PAUSE_FACTOR));
}
