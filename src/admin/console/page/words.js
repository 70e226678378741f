// Every sentence of the page, in English and Chinese, and how numbers and times are written.

/** @type {Record<string, [string, string]>} */
const WORDS = {
  now: ["Now", "概览"],
  endpoints: ["Endpoints", "接收地址"],
  tunnels: ["Tunnels", "信道"],
  tenants: ["Tenants", "租户"],
  live: ["Live", "实时"],
  search: ["Tunnel id, user, group or receive URL", "信道 id、用户、分组或接收地址"],
  language: ["中文", "English"],
  logIn: ["Log in", "登录"],
  logOut: ["Log out", "退出"],
  token: ["Token", "令牌"],
  loginHelp: ["It is console.token in the configuration of this node.", "即本节点配置中的 console.token。"],
  serving: ["Serving", "服务中"],
  draining: ["Draining", "正在排空"],
  troubled: ["Trouble", "有故障"],
  connecting: ["Connecting …", "正在连接……"],
  reconnecting: ["This node does not answer. Trying again …", "节点没有响应，正在重试……"],
  skipped: ["{0} frames skipped", "跳过 {0} 帧"],
  perSecond: ["/s", "/秒"],
  events: ["Events", "事件"],
  failures: ["Failures", "失败"],
  latency: ["Latency p99", "延迟 p99"],
  pushes: ["Pushes", "推送"],
  waiting: ["Waiting events", "等待的事件"],
  newTunnels: ["{0} opened, {1} closed just now", "刚刚打开 {0}，关闭 {1}"],
  failuresNote: ["{0} in the last minute", "最近一分钟 {0} 次"],
  pushesTo: ["to clients", "发往客户端"],
  pushesNote: ["{0}/s messages from clients", "客户端消息 {0}/秒"],
  waitingNote: ["receive URLs that are down: {0}", "不可用的接收地址：{0}"],
  lastMinute: ["Last minute", "最近一分钟"],
  lastHour: ["Last hour", "最近一小时"],
  allWell: ["All is well", "一切正常"],
  otherNodes: ["This page shows one of {0} nodes.", "集群有 {0} 个节点；本页只显示这一个。"],
  node: ["Node", "节点"],
  version: ["Version", "版本"],
  engine: ["Engine", "引擎"],
  engineUp: ["answers", "有响应"],
  engineDown: ["does not answer", "无响应"],
  upSince: ["Up since", "启动于"],
  slow: ["Slow", "最慢"],
  busy: ["Busy", "最忙"],
  noEndpoints: ["No events yet", "还没有事件"],
  noEndpointsNote: ["A URL is listed from its first event on.", "收到第一个事件后列在这里。"],
  delivered: ["delivered", "已送达"],
  failed: ["failed", "失败"],
  inFlight: ["in flight", "进行中"],
  inLine: ["waiting", "等待"],
  down: ["Down", "不可用"],
  failing: ["Failing", "失败中"],
  ok: ["OK", "正常"],
  lastFailure: ["Last at {0}, first at {1}", "最近一次 {0}，最早 {1}"],
  unmeasured: ["{0} URLs are measured; {1} attempts went to others", "统计 {0} 个地址；另有 {1} 次投递未统计"],
  noTunnels: ["No open tunnel fits", "没有符合的信道"],
  noTunnelsNote: ["A whole id is looked for on all nodes, the rest on this one.", "完整的 id 会在所有节点上查找，其余只查本节点。"],
  more: ["More", "更多"],
  slowest: ["Where most waits", "积压最多"],
  noneSlow: ["Nothing waits", "没有积压"],
  noneSlowNote: ["Press / to find a tunnel.", "按 / 键查找信道。"],
  user: ["User", "用户"],
  groups: ["Groups", "分组"],
  tenant: ["Tenant", "租户"],
  since: ["Connected since", "连接于"],
  receiveUrl: ["Receive URL", "接收地址"],
  eventQueue: ["Queued events", "排队的事件"],
  pushQueue: ["For the client", "待发给客户端"],
  close: ["Close tunnel", "关闭信道"],
  closeAsk: ["Close this tunnel? Its client stays away.", "关闭此信道？客户端不会重连。"],
  cancel: ["Cancel", "取消"],
  send: ["Send a test message", "发送测试消息"],
  done: ["Done", "已完成"],
  nearest: ["Nearest to a limit", "最接近上限"],
  byId: ["By id", "按 id"],
  neverUsed: ["unused since the start", "启动后未使用"],
  refusedCalls: ["refused", "被拒绝"],
  throttled: ["paused for their rate", "因限速暂停"],
  limit_connections: ["Tunnels", "信道数"],
  limit_max_pending_closes: ["Unsettled closes", "未确认的关闭"],
  timeline: ["Timeline", "时间线"],
  ladder: ["client · gateway · business server", "客户端 · 网关 · 业务服务器"],
  covers: ["recorded since {0}", "记录始于 {0}"],
  complete: ["all is recorded", "记录完整"],
  noRecords: ["No records", "没有记录"],
  noRecordsNote: ["Nothing happened lately, or timeline.bytes is 0.", "最近没有发生任何事，或 timeline.bytes 为 0。"],
  onlyFailed: ["Failures only", "只看失败"],
  pause: ["Pause", "暂停"],
  goOn: ["Go on", "继续"],
  moreRecords: ["{0} more did not fit", "另有 {0} 条未显示"],
  copy: ["Copy as report", "复制报告"],
  fix: ["What to do", "如何处理"],
};

/** What failures mean, and what to do, by code, as the node says it. @type {Reasons} */
let reasons = {};
/** @type {Record<string, [string, string]>} */
let kinds = {};

let chosen = (localStorage.getItem("language") ?? navigator.language).startsWith("zh") ? 1 : 0;

/** The language of the page, as a tag. */
export const language = () => (chosen === 1 ? "zh-CN" : "en");

/** Takes the other language. */
export function switchLanguage() {
  chosen = 1 - chosen;
  localStorage.setItem("language", language());
}

/** A sentence of the table. @param {string} key @param {...(string | number)} values for {0}, {1} */
export const t = (key, ...values) => (WORDS[key]?.[chosen] ?? key).replace(/\{(\d)\}/g, (_, at) => String(values[Number(at)]));

/** Takes the words of the node. @param {{ kinds: typeof kinds, reasons: Reasons }} words */
export const learn = (words) => ({ kinds, reasons } = words);

/** The word for a kind of record. @param {string} kind */
export const kindWord = (kind) => kinds[kind]?.[chosen] ?? kind;

/** What a failure means, and what to do; null if the code says it all. @param {string} code */
export function explain(code) {
  const row = reasons[code];
  return row ? { sentence: row[chosen] ?? "", fix: row[chosen + 2] ?? "" } : null;
}

/** @param {number} value */
export const number = (value) => new Intl.NumberFormat(language()).format(value);

/** Large numbers in few characters. @param {number} value */
export const short = (value) => (value < 100_000 ? number(value) : new Intl.NumberFormat(language(), { notation: "compact", maximumFractionDigits: 1 }).format(value));

/** @param {number | null} value milliseconds */
export function ms(value) {
  if (value === null) return "–";
  if (value >= 1_000) return `${(value / 1_000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** @param {number} value */
export const bytes = (value) => (value < 1_024 ? `${value} B` : value < 1_048_576 ? `${(value / 1_024).toFixed(1)} KiB` : `${(value / 1_048_576).toFixed(1)} MiB`);

/** The time of day; with the date, unless it is today. @param {string | number} when */
export function time(when) {
  const date = new Date(when);
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(language(), { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", ...(isToday ? {} : { month: "short", day: "numeric" }) });
}

/** The time of day with milliseconds. @param {string} when */
export const clock = (when) => `${time(when)}.${when.slice(20, 23)}`;
