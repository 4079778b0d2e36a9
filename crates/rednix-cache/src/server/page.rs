//! The overview for people: plain HTML for screens of every width, everything from elsewhere escaped; no script, and
//! nothing loaded from anywhere.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, header};

use super::{Fault, Shared};
use crate::limits::PAGE_PATHS;

/// Nothing from elsewhere: fonts of the system, colours for bright and dark, one column where the screen is narrow.
const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1b1b1b;--muted:#585858;--line:#d5d5d5;--back:#fff;--field:#f3f4f6;--link:#0b57a4}\
@media(prefers-color-scheme:dark){:root{--text:#e8e8e8;--muted:#a9a9a9;--line:#3d3d3d;--back:#161616;--field:#232323;--link:#8ec1ff}}\
*{box-sizing:border-box}\
body{font:1rem/1.5 system-ui,sans-serif;margin:0;color:var(--text);background:var(--back)}\
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}\
h1,h2{font-weight:600;line-height:1.25}h1{font-size:1.6rem;margin:0 0 1rem}h2{font-size:1.2rem;margin:2rem 0 .75rem}\
a{color:var(--link)}a:focus-visible{outline:3px solid var(--link);outline-offset:2px}\
code,pre{font-family:ui-monospace,monospace;font-size:.875rem}\
pre{background:var(--field);border:1px solid var(--line);border-radius:.4rem;padding:.75rem 1rem;overflow-x:auto}\
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem;margin:0}\
dl div{background:var(--field);border:1px solid var(--line);border-radius:.4rem;padding:.5rem .75rem}\
dt{color:var(--muted);font-size:.875rem}dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}\
dd small{display:block;color:var(--muted);font-size:.8rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.45rem .75rem .45rem 0;border-bottom:1px solid var(--line)}\
thead th{color:var(--muted);font-weight:600;font-size:.875rem}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
.p{display:block;color:var(--muted);font-weight:400;overflow-wrap:anywhere}\
.h{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}\
p{margin:.5rem 0;color:var(--muted)}\
@media(max-width:40rem){thead{display:none}tr{display:flex;flex-wrap:wrap;gap:0 1rem;padding:.5rem 0;border-bottom:1px solid var(--line)}\
th,td{border:0;padding:0}tbody th{flex:1 0 100%}.n{text-align:left;color:var(--muted);font-size:.875rem}}";

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

/// What this server answered so far, in fields of a term and what is to be said about it.
fn figures(shared: &Shared) -> Result<Vec<(&'static str, String, String)>, Fault> {
    let totals = shared.store.totals()?;
    let counters = &shared.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (hits, misses) = (count(&counters.hits), count(&counters.misses));
    let share = match hits + misses {
        0 => "nothing was asked for yet".to_owned(),
        all => format!("{} % of {all} questions", hits * 100 / all),
    };
    let quota = match (shared.config.token.is_some(), shared.quota.limit()) {
        (false, _) => ("none".to_owned(), "it was started without --token".to_owned()),
        (true, None) => {
            (count(&counters.uploads).to_string(), format!("{} in all", size(shared.quota.used())))
        }
        (true, Some(limit)) => (
            count(&counters.uploads).to_string(),
            format!("{} of {}", size(shared.quota.used()), size(limit)),
        ),
    };
    Ok(vec![
        ("Paths", totals.paths.to_string(), format!("{} unpacked", size(totals.nar_bytes))),
        ("Found", hits.to_string(), share),
        ("Not found", misses.to_string(), String::new()),
        ("Archives sent", count(&counters.archives).to_string(), size(count(&counters.bytes_sent))),
        ("Uploads taken", quota.0, quota.1),
        ("Requests", count(&counters.requests).to_string(), format!("since {}", date(shared.started_s))),
    ])
}

pub(super) fn overview(shared: &Shared, headers: &HeaderMap) -> Result<String, Fault> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("this-host");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\"><title>rednix cache at {}</title><style>{STYLE}</style></head>\
         <body><main><h1>rednix cache</h1><dl>",
        escape(host)
    );
    for (name, value, more) in figures(shared)? {
        write!(
            page,
            "<div><dt>{name}</dt><dd>{} <small>{}</small></dd></div>",
            escape(&value),
            escape(&more)
        )
        .expect("a string takes everything");
    }
    page.push_str(
        "</dl><h2>Use it</h2><p>In rednix's <code>config.toml</code>; <code>nix.conf</code> has the same keys, without quotes and brackets.</p><pre tabindex=\"0\"><code>",
    );
    writeln!(page, "extra-substituters = [\"http://{}\"]", escape(host)).expect("a string takes everything");
    match &shared.config.key {
        Some(key) => {
            writeln!(page, "extra-trusted-public-keys = [\"{}\"]", escape(&key.public().to_string()))
                .expect("a string takes everything");
            page.push_str("</code></pre>");
        }
        None => page.push_str(
            "</code></pre><p>It signs nothing itself: it was started without <code>--key</code>.</p>",
        ),
    }
    newest(shared, &mut page)?;
    page.push_str("</main></body></html>\n");
    Ok(page)
}

/// The youngest paths, each with its entry, and the log where there is one.
fn newest(shared: &Shared, page: &mut String) -> Result<(), Fault> {
    let newest = shared.store.newest_paths(PAGE_PATHS)?;
    let infos = shared.store.path_infos(&newest)?;
    page.push_str("<h2 id=\"newest\">Newest</h2>");
    if newest.is_empty() {
        page.push_str("<p>Nothing is here yet.</p>");
        return Ok(());
    }
    page.push_str(
        "<table aria-labelledby=\"newest\"><thead><tr><th scope=\"col\">Path</th><th scope=\"col\">Origin</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\" class=\"n\">Since (UTC)</th></tr></thead><tbody>",
    );
    for path in &newest {
        let Some(info) = infos.get(path) else { continue };
        let (hash_part, name) = (path.hash_part(), escape(path.name()));
        let origin = if info.ultimate { "built here" } else { "added" };
        let log = info.deriver.as_ref().filter(|derivation| shared.store.log_path(derivation).exists());
        let log = log.map(|derivation| {
            let place = escape(&crate::log::place(derivation));
            format!(" (<a href=\"/{place}\">log<span class=\"h\"> of {name}</span></a>)")
        });
        let since = date(info.registration_time_s);
        write!(
            page,
            "<tr><th scope=\"row\"><a href=\"/{hash_part}.narinfo\">{name}</a><code class=\"p\">{}</code></th><td>{origin}{}</td><td class=\"n\">{}</td><td class=\"n\"><time datetime=\"{}Z\">{since}</time></td></tr>",
            escape(&path.to_string()),
            log.unwrap_or_default(),
            size(info.nar_size),
            since.replace(' ', "T")
        )
        .expect("a string takes everything");
    }
    page.push_str("</tbody></table>");
    Ok(())
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
