//! Caches behind TLS: whose certificates count, and HTTP/2 for many small questions. The certificates are made by
//! `openssl`; without it these tests say that they were skipped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rednix_cache::transport::HttpSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::server::{config, serve};
use crate::support::{built, caches_with, skipped, store, trust};

/// An authority's certificate, and one that it signed for 127.0.0.1 with its key.
fn certificates(folder: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let steps: [&[&str]; 3] = [
        &["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2"],
        &["req", "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=cache"],
        &[
            "x509",
            "-req",
            "-in",
            "own.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "own.pem",
            "-days",
            "2",
            "-extfile",
            "names",
        ],
    ];
    for step in steps {
        let mut command = Command::new("openssl");
        command.args(step).current_dir(folder);
        if step[0] == "req" {
            command.args(new);
        }
        match command.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                skipped(&format!("no certificates: `openssl`: {error}"));
                return None;
            }
        }
    }
    Some((folder.join("ca.pem"), folder.join("own.pem"), folder.join("own.key")))
}

/// Takes TLS off in front of a server, and notes which protocol was agreed on for each connection.
struct Front {
    address: SocketAddr,
    protocols: Arc<Mutex<Vec<String>>>,
}

fn front(certificate: &Path, key: &Path, behind: String, offers: &[&str]) -> Front {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let protocols: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = protocols.clone();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted, behind) = (acceptor.clone(), noted.clone(), behind.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
                    noted.lock().unwrap().push(String::from_utf8(agreed).unwrap());
                    let mut plain = tokio::net::TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
    });
    Front { address, protocols }
}

#[test]
fn many_small_files_share_a_connection_of_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let Some((authority, certificate, key)) = certificates(folder.path()) else { return };
    let server = serve(&folder.path().join("server"), config());
    let many: Vec<_> = (0..200).map(|n| built(&server.store, &format!("p{n}"), "x", &[])).collect();
    let references: Vec<_> = many.iter().collect();
    let top = built(&server.store, "top", "t", &references);
    let settings = HttpSettings { certificates: Some(authority), ..HttpSettings::default() };
    for (offers, expected, connections_max) in
        [(&["h2", "http/1.1"][..], "h2", 4), (&["http/1.1"][..], "http/1.1", 60)]
    {
        let behind = server.url.strip_prefix("http://").unwrap().to_owned();
        let front = front(&certificate, &key, behind, offers);
        let to = store(&folder.path().join(expected.replace('/', "-")));
        let scene = caches_with(&[format!("https://{}", front.address)], trust(), settings.clone());
        scene.bring(&to, &top).unwrap();
        assert_eq!(to.all_valid_paths().unwrap().len(), 201);
        let protocols = front.protocols.lock().unwrap();
        assert!(protocols.iter().all(|agreed| agreed == expected), "{protocols:?}");
        // More than 400 requests.
        assert!(protocols.len() <= connections_max, "{expected}: {} connections", protocols.len());
    }
}

#[test]
fn certificates_of_strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some((authority, certificate, key)) = certificates(folder.path()) else { return };
    let server = serve(&folder.path().join("server"), config());
    let path = built(&server.store, "x", "x", &[]);
    let behind = server.url.strip_prefix("http://").unwrap().to_owned();
    let front = front(&certificate, &key, behind, &["h2"]);
    let to = store(&folder.path().join("to"));
    let bring = |host: &str, certificates: Option<PathBuf>| {
        let settings = HttpSettings { certificates, ..HttpSettings::default() };
        let url = format!("https://{host}:{}", front.address.port());
        caches_with(&[url], trust(), settings).bring(&to, &path)
    };
    let told = bring("127.0.0.1", None).unwrap_err();
    assert!(told.contains("cannot reach") && told.contains("certificate"), "{told}");
    // The right authority, another name.
    let told = bring("localhost", Some(authority.clone())).unwrap_err();
    assert!(told.contains("certificate"), "{told}");
    assert!(front.protocols.lock().unwrap().is_empty());
    bring("127.0.0.1", Some(authority)).unwrap();
}
