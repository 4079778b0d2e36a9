//! The overview for people: plain HTML, everything from elsewhere escaped, no script.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::http::{HeaderMap, header};

use super::{Fault, Shared};
use crate::limits::PAGE_PATHS;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}\
td.n{text-align:right;white-space:nowrap}code{font-size:.9em;overflow-wrap:anywhere}h1,h2{font-weight:600}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}}";

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

pub(super) fn overview(shared: &Shared, headers: &HeaderMap) -> Result<String, Fault> {
    let totals = shared.store.totals()?;
    let newest = shared.store.newest_paths(PAGE_PATHS)?;
    let infos = shared.store.path_infos(&newest)?;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &shared.counters;
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("this-host");
    let mut page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>rednix cache</title><style>{STYLE}</style></head><body><h1>rednix cache</h1>"
    );
    let rows = [
        ("Paths", totals.paths.to_string()),
        ("Size of all archives, unpacked", size(totals.nar_bytes)),
        ("Requests since the start", count(&counters.requests).to_string()),
        ("Found", count(&counters.hits).to_string()),
        ("Not found", count(&counters.misses).to_string()),
        ("Archives sent", format!("{} ({})", count(&counters.archives), size(count(&counters.bytes_sent)))),
        ("Paths received", count(&counters.uploads).to_string()),
        ("Uploads", if shared.config.token.is_some() { "with a token" } else { "none" }.to_owned()),
    ];
    page.push_str("<table>");
    for (name, value) in rows {
        write!(page, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&value))
            .expect("a string takes everything");
    }
    page.push_str(
        "</table><h2>Use it</h2><p>In rednix's <code>config.toml</code> (<code>nix.conf</code> has the same keys, without quotes and brackets):</p><pre><code>",
    );
    writeln!(page, "extra-substituters = [\"http://{}\"]", escape(host)).expect("a string takes everything");
    if let Some(key) = &shared.config.key {
        writeln!(page, "extra-trusted-public-keys = [\"{}\"]", escape(&key.public().to_string()))
            .expect("a string takes everything");
    }
    page.push_str("</code></pre><h2>Newest</h2><table><tr><th>Path</th><th>Size</th><th>Since</th></tr>");
    for path in &newest {
        let Some(info) = infos.get(path) else { continue };
        let (hash_part, name) = (path.hash_part(), escape(path.name()));
        write!(
            page,
            "<tr><td><a href=\"/{hash_part}.narinfo\">{name}</a><br><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&path.to_string()),
            size(info.nar_size),
            date(info.registration_time_s)
        )
        .expect("a string takes everything");
    }
    page.push_str("</table></body></html>\n");
    Ok(page)
}

/// Day and minute, universal time, of seconds since 1970 (Howard Hinnant's civil calendar).
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
    }

    #[test]
    fn dates_and_sizes() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_767_225_600), "2026-01-01 00:00");
        assert_eq!([size(0), size(1023), size(1536), size(5 << 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
