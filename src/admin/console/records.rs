//! What timelines have recorded: the story of a tunnel, and records as they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::query::Query;
use super::reply::Refused;
use crate::gateway::Gateway;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Language;
use crate::reason::Reason;
use crate::timeline::Covered;
use crate::timeline::Filter;
use crate::timeline::Line;
use crate::timeline::MAX_QUEUED;
use crate::timeline::Merged;
use crate::timeline::Record;
use crate::timeline::Row;
use crate::timeline::Timeline;
use crate::timeline::Watch;

/// Records of a page, and most of them.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Records that a frame may show: more do not fit.
const MAX_LINES: usize = 40;

/// What all nodes have recorded of a tunnel.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Story {
    /// Whether this node records anything (`timeline.bytes`).
    is_on: bool,
    records: Vec<Line>,
    /// Where the page before this one ends, if there are older records.
    before: Option<u64>,
    /// What each node covers.
    nodes: Vec<Covered>,
}

/// Records since the last frame.
#[derive(Serialize)]
pub(super) struct News {
    lines: Vec<Line>,
    /// How many more there were.
    skipped: u64,
}

impl News {
    /// Leaves out the oldest one; false if there is none.
    pub(super) fn shorten(&mut self) -> bool {
        let is_any = !self.lines.is_empty();
        if is_any {
            self.lines.remove(0);
            self.skipped += 1;
        }
        is_any
    }
}

/// What is wrong with a request of the page, or with the node, beyond the reasons of records: code, and words as in [`Words`].
const OWN: [(&str, [&str; 4]); 10] = [
    (
        "console_token",
        [
            "this is not the token",
            "令牌不对",
            "take the value of console.token, without quotes",
            "请使用 console.token 的值，不带引号",
        ],
    ),
    ("too_many_pages", ["too many pages are open", "打开的页面太多", "close one of them", "请关闭其中一个"]),
    (
        "console_read_only",
        [
            "this console only shows",
            "控制台只读",
            "set console.write = true and send SIGHUP",
            "设置 console.write = true 并发送 SIGHUP",
        ],
    ),
    (
        "parameter_invalid",
        [
            "this cannot be looked for",
            "无法查找",
            "write four characters of an id or more, a URL from http:// on, or a whole user or group",
            "请输入 id 的至少四个字符、以 http:// 开头的地址，或完整的用户名或分组名",
        ],
    ),
    // Gaps of timelines.
    (
        "timeline_no_answer",
        [
            "it does not answer, so its part is missing",
            "没有响应，缺少它的部分",
            "try again in a few seconds",
            "几秒后再试",
        ],
    ),
    ("timeline_too_old", ["it is of a version without timelines", "版本太旧，没有时间线", "update it", "请升级"]),
    ("timeline_off", ["it records nothing", "它不记录", "set timeline.bytes on it", "在该节点上设置 timeline.bytes"]),
    (
        "timeline_gone",
        [
            "the node that had the tunnel is dead, and its part is gone with it",
            "信道所在的节点已经失效，它的部分也没有了",
            "look at the log of that node",
            "查看该节点的日志",
        ],
    ),
    (
        "timeline_engine_away",
        [
            "the engine does not answer, so there may be nodes that are not asked",
            "引擎没有响应，可能有节点没有查询到",
            "try again; if it lasts, look at Redis and the network to it",
            "稍后再试；持续不恢复就检查 Redis 和到它的网络",
        ],
    ),
    ("events_fail", ["events fail", "事件投递失败", "see which, and why", "查看是哪些，以及原因"]),
];

/// All kinds and reasons in words: kinds in English and Chinese; reasons as sentence in English and Chinese, fix in English and Chinese.
#[derive(Serialize)]
pub(super) struct Words {
    kinds: BTreeMap<&'static str, [&'static str; 2]>,
    reasons: BTreeMap<&'static str, [&'static str; 4]>,
}

impl Words {
    pub(super) fn all() -> Self {
        let kinds = Kind::ALL.iter().map(|kind| (kind.as_str(), Language::ALL.map(|language| kind.word(language))));
        let reasons = Reason::ALL.iter().map(|reason| {
            let [english, chinese] = Language::ALL.map(|language| reason.words(language));
            (reason.code(), [english.sentence, chinese.sentence, english.fix, chinese.fix])
        });
        Self { kinds: kinds.collect(), reasons: reasons.chain(OWN).collect() }
    }
}

/// `GET /console/api/tunnels/{id}/timeline`.
pub(super) async fn story(gateway: &Gateway, tunnel: TunnelId, query: &Query<'_>) -> Result<Story, Refused> {
    query.only(&["limit", "before"])?;
    let limit = query.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let before_us = query.get("before").map(|before| before.parse()).transpose();
    let before_us = before_us.map_err(|_| Refused::parameter("before is that of the page before"))?;
    let Merged { rows, has_more, nodes } = gateway.timeline_of_any(tunnel, before_us, limit).await;
    Ok(Story {
        is_on: gateway.timeline.is_on(),
        before: rows.first().filter(|_| has_more).map(|(_, row)| row.unix_us),
        records: rows.iter().map(|(node, row)| line(row, node)).collect(),
        nodes,
    })
}

/// What a stream of records shows.
pub(super) fn filter(gateway: &Gateway, query: &Query<'_>) -> Filter {
    let wanted = query.get("q").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let mut filter = Filter { only_failed: query.get("failed").is_some(), ..Filter::default() };
    if let Some(text) = wanted {
        match text.parse() {
            Ok(tunnel) => filter.tunnel = Some(tunnel),
            Err(_) if text.contains("://") => filter.url = Some(text),
            // Another text is a detail, such as a user or group, or the name of a tenant.
            Err(_) => {
                let timeline = Arc::downgrade(&gateway.timeline);
                filter.also = Some(Arc::new(move |record: &Record| {
                    timeline.upgrade().is_some_and(|timeline| mentions(&timeline, record, &text))
                }));
            }
        }
    }
    filter
}

fn mentions(timeline: &Timeline, record: &Record, text: &str) -> bool {
    timeline.text(record.words).is_some_and(|words| words.contains(text))
        || timeline.tenant_id(record.tenant).is_some_and(|tenant| tenant.as_str() == text)
}

/// The records that have come since the last frame; the newest ones, if they are many.
pub(super) fn news(gateway: &Gateway, watch: &Watch) -> News {
    let mut seen = watch.take(MAX_QUEUED);
    let cut = seen.records.len().saturating_sub(MAX_LINES);
    seen.records.drain(..cut);
    let node = gateway.tunnels.node();
    let rows = gateway.timeline.rows(&seen.records);
    News { lines: rows.iter().map(|row| line(row, node)).collect(), skipped: seen.skipped + cut as u64 }
}

/// A row for the page, which has the words for kinds and reasons itself. Payloads are their tenant's.
fn line(row: &Row, node: &str) -> Line {
    let without_query = |url: &String| url.split('?').next().unwrap_or_default().to_owned();
    Line {
        tenant: row.tenant.clone(),
        url: row.url.as_ref().map(without_query),
        reason: None,
        fix: None,
        payload: None,
        ..Line::of(row, node, Language::English)
    }
}
