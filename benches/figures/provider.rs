//! The sandbox on this host, plain and behind TLS.

#[path = "../../tests/support/tls.rs"]
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rekeyd::sandbox::{Sandbox, SandboxOptions};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A sandbox that serves on a thread of its own until it is dropped.
pub(crate) struct TlsSandbox {
    pub(crate) sandbox: Arc<Sandbox>,
    /// The base URL without TLS.
    pub(crate) base_url: String,
    /// The base URL with TLS, whose authority is in [`Self::ca_file`].
    pub(crate) secure_url: String,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsSandbox {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let (sender, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            crate::engine::runtime().block_on(async {
                let sandbox = Arc::new(Sandbox::start(SandboxOptions::default()).await.unwrap());
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = listener.local_addr().unwrap().port();
                let plain_port = sandbox.base_url().port().unwrap();
                tokio::spawn(terminate_tls(listener, tls::acceptor(&ca_file), plain_port));
                sender.send((sandbox, port)).unwrap();
                // An error means that the owner was dropped, which also stops
                // it.
                let _ = stopped.await;
            });
        });
        let (sandbox, port) = started.recv().unwrap();
        Self {
            base_url: sandbox.base_url().to_string(),
            secure_url: format!("https://localhost:{port}/v1"),
            sandbox,
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for TlsSandbox {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Terminates TLS, and forwards the plain connections.
async fn terminate_tls(listener: TcpListener, acceptor: TlsAcceptor, plain_port: u16) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut sandbox = TcpStream::connect(("127.0.0.1", plain_port)).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut sandbox).await
        });
    }
}
