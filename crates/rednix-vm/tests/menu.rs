//! The loader's menu under BIOS, which is on the screen and nowhere else: a boot sector of our own shows it, waits for a
//! key as upstream's loader does, and says on COM1 which one it got. It needs a real QEMU.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[path = "support/sector.rs"]
mod sector;

use rednix_events::{Events, Outcome, Silent};
use rednix_vm::spec::Display;
use rednix_vm::{Config, MachineSpec, Runner, TestSpec, run_test};
use serde_json::json;

/// Real-mode code: writes the text to the screen's second line, waits for keys, and sends the ASCII of each over COM1
/// between `<` and `>`.
fn boot_sector() -> Vec<u8> {
    const TEXT: &[u8] = b"Arrow keys and enter select mode\0";
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xb8, 0x00, 0xb8, // mov ax, 0xb800
        0x8e, 0xc0, // mov es, ax
        0xbf, 0xa0, 0x00, // mov di, 160
        0xbe, 0x00, 0x7d, // mov si, 0x7d00
        // show: 0x10
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x05, // jz wait
        0xb4, 0x07, // mov ah, 7
        0xab, // stosw
        0xeb, 0xf6, // jmp show
        // wait: 0x1a
        0x31, 0xc0, // xor ax, ax
        0xcd, 0x16, // int 0x16
        0x50, // push ax
        0xb0, b'<', // mov al, '<'
        0xe8, 0x0b, 0x00, // call put
        0x58, // pop ax
        0xe8, 0x07, 0x00, // call put
        0xb0, b'>', // mov al, '>'
        0xe8, 0x02, 0x00, // call put
        0xeb, 0xe9, // jmp wait
        // put: 0x31
        0x88, 0xc3, // mov bl, al
        0xba, 0xfd, 0x03, // mov dx, 0x3fd
        0xec, // in al, dx
        0xa8, 0x20, // test al, 0x20
        0x74, 0xfb, // jz -5
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x88, 0xd8, // mov al, bl
        0xee, // out dx, al
        0xc3, // ret
    ];
    sector::disk(&code, TEXT)
}

/// QEMU with the boot sector, which shows its menu on a screen.
fn real(folder: &Path) -> Option<(Box<dyn Runner>, MachineSpec, Config)> {
    let (runner, spec, config) = sector::machine(folder, "menu", &boot_sector())?;
    Some((runner, MachineSpec { display: Display::Headless, ..spec }, config))
}

fn silent() -> Events {
    Arc::new(Silent)
}

#[test]
fn a_test_answers_it_once_with_enter() {
    let folder = tempfile::tempdir().unwrap();
    let Some((runner, spec, config)) = real(folder.path()) else { return };
    // A second answer would come between the first and the letter, which is pressed several looks later.
    let test: TestSpec = serde_json::from_value(json!({ "name": "menu", "machine": spec, "steps": [
        { "waitFor": "<" }, { "sleep": 2 }, { "press": ["k"] }, { "waitFor": { "regex": "^><k>" } }, { "powerOff": true },
    ] }))
    .unwrap();
    let report = run_test(&*runner, &test, &config, &silent()).unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{}\n{:?}", report.message, report.console_tail);
    let console = std::fs::read(report.console_log.unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(&console), "<\r><k>");
}

/// Not a test by itself: the other half of the next one.
#[test]
#[ignore = "started by another test"]
fn helper_runs_interactively() {
    let folder = tempfile::tempdir().unwrap();
    let Some((runner, spec, config)) = real(folder.path()) else { return };
    let stop = config.stop.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(300));
        stop.request();
    });
    let _ = rednix_vm::run(&*runner, &spec, &config, &silent(), &rednix_vm::Keyboard::default());
}

#[test]
fn a_run_answers_it_too() {
    let folder = tempfile::tempdir().unwrap();
    if real(folder.path()).is_none() {
        return;
    }
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.args(["--exact", "helper_runs_interactively", "--ignored", "--nocapture", "--test-threads=1"]);
    let mut child = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut output, mut seen) = (child.stdout.take().unwrap(), Vec::new());
    let mut buffer = [0; 256];
    while !String::from_utf8_lossy(&seen).contains("<\r>") {
        let count = output.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "it ended with {:?}", String::from_utf8_lossy(&seen));
        seen.extend(&buffer[..count]);
    }
    // Its machine goes with it.
    child.kill().unwrap();
    child.wait().unwrap();
}
