//! Sockets to a real server: source address, device and mark as the check asks, TLS on request.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;

use super::tls::Tls;
use super::{Attempt, Fault, Target};
use crate::health::outcome::Failure;

/// PROXY protocol 2, command LOCAL: the sender speaks for itself, as checks do.
const PROXY_LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A byte stream to a real server.
pub(super) enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the attempt's target, with TLS from the first byte when `tls` is given.
pub(super) async fn open(attempt: &mut Attempt<'_>, tls: Option<&Tls>) -> Result<Stream, Fault> {
    let tcp = tcp(attempt).await?;
    match tls {
        Some(tls) => secure(attempt, tcp, tls).await,
        None => Ok(Stream::Plain(tcp)),
    }
}

/// Connects to the attempt's target over TCP.
pub(super) async fn tcp(attempt: &mut Attempt<'_>) -> Result<TcpStream, Fault> {
    let target = attempt.target;
    tcp_to(attempt, target.address).await
}

/// Connects over TCP to another address than the target's, as the target's options say (FTP's data
/// connection).
pub(super) async fn tcp_to(
    attempt: &mut Attempt<'_>,
    address: SocketAddr,
) -> Result<TcpStream, Fault> {
    attempt.waiting_for = "connect";
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(Fault::local)?;
    prepare(&socket, attempt.target, address).map_err(Fault::local)?;
    let mut stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
        .map_err(|error| Fault::from_io(error, "connect"))?;
    if attempt.target.proxy_protocol && address == attempt.target.address {
        stream
            .write_all(&PROXY_LOCAL)
            .await
            .map_err(|error| Fault::from_io(error, "PROXY protocol header to be taken"))?;
    }
    // Every exchange here is small questions and small answers.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A UDP socket connected to the target, so that only its answers arrive and ICMP errors surface
/// as "connection refused".
pub(super) fn udp(attempt: &mut Attempt<'_>) -> Result<UdpSocket, Fault> {
    let address = attempt.target.address;
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(Fault::local)?;
    prepare(&socket, attempt.target, address).map_err(Fault::local)?;
    socket.connect(&address.into()).map_err(|error| Fault::from_io(error, "route"))?;
    UdpSocket::from_std(socket.into()).map_err(Fault::local)
}

/// Sends all of `bytes`; `expected` is what should have come instead of an end.
pub(super) async fn send(
    stream: &mut Stream,
    bytes: &[u8],
    expected: &'static str,
) -> Result<(), Fault> {
    stream.write_all(bytes).await.map_err(|error| Fault::from_io(error, expected))?;
    stream.flush().await.map_err(|error| Fault::from_io(error, expected))
}

/// Starts TLS on a connected stream and notes when the server's certificate ends.
pub(super) async fn secure(
    attempt: &mut Attempt<'_>,
    tcp: TcpStream,
    tls: &Tls,
) -> Result<Stream, Fault> {
    attempt.waiting_for = "TLS handshake";
    let name = tls.server_name(attempt.target.address.ip());
    let stream = tls.connector().connect(name, tcp).await.map_err(tls_fault)?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    attempt.measured.certificate_ends = leaf.and_then(|der| super::x509::not_after(der));
    Ok(Stream::Tls(Box::new(stream)))
}

/// Applies a target's device, mark and source address to a new socket.
pub(super) fn prepare(socket: &Socket, target: &Target, to: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if let Some(device) = &target.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(mark) = target.mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = target.source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        bind(socket, source)?;
    }
    Ok(())
}

fn bind(socket: &Socket, source: IpAddr) -> io::Result<()> {
    // Lets the kernel pick a port at connect time, by destination: otherwise all checks from one
    // source address would share its 28,000 ephemeral ports.
    let _ =
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
    socket.bind(&SocketAddr::new(source, 0).into())
}

fn tls_fault(error: io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => Fault::Failed(Failure::Tls(super::tls::handshake_failure(tls))),
        None => Fault::from_io(error, "TLS handshake"),
    }
}

impl Stream {
    /// Gives up plain TCP for TLS (STARTTLS).
    pub(super) async fn upgrade(
        self,
        attempt: &mut Attempt<'_>,
        tls: &Tls,
    ) -> Result<Stream, Fault> {
        match self {
            Stream::Plain(tcp) => secure(attempt, tcp, tls).await,
            tls @ Stream::Tls(_) => Ok(tls),
        }
    }

    /// Makes the close that follows a reset, which leaves no TIME_WAIT behind. For checks that
    /// only connect: 2,500 of them a second would otherwise hold 150,000 dead sockets.
    pub(super) fn forget(tcp: &TcpStream) {
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }

    /// Our end of the connection.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Plain(tcp) => tcp.local_addr(),
            Stream::Tls(tls) => tls.get_ref().0.local_addr(),
        }
    }

    /// The protocol that TLS negotiated, if any.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
