// Types of the page's modules: the answers of the node, and what modules give each other. Checked by tests/browser, not served.

type Pulse = {
  unixMs: number;
  tunnels: number;
  connects: number;
  closes: number;
  messages: number;
  pushes: number;
  delivered: number;
  failed: number;
  p50Ms: number | null;
  p99Ms: number | null;
  waiting: number;
  breakersOpen: number;
  isDraining: boolean;
  hasRoom: boolean;
  isEngineUp: boolean;
  obstacle: string | null;
  nodes: number;
};

type Series = {
  connects: number[];
  messages: number[];
  pushes: number[];
  delivered: number[];
  failed: number[];
  p50Ms: (number | null)[];
  p99Ms: (number | null)[];
};

type Overview = {
  node: string;
  version: string;
  commit: string;
  engine: string;
  startedUnixSecs: number;
  canWrite: boolean;
  unusedConnectUrls: number;
  pulse: Pulse;
  seconds: Series;
  minutes: Series;
};

type Figures = {
  delivered: number;
  failed: number;
  p50Ms: number | null;
  p99Ms: number | null;
  isDown: boolean;
  isFailing: boolean;
  waiting: number;
};

type LastFailure = { code: string; reason: string; tunnelId: string; at: string; since: string };

type EndpointRow = Figures & {
  key: string;
  tenant: string;
  url: string;
  hourDelivered: number;
  hourFailed: number;
  inFlight: number;
  inFlightLimit: number;
  failure: LastFailure | null;
  deliveredBySecond: number[];
  failedBySecond: number[];
};

type EndpointPage = { measured: number; unmeasuredAttempts: number; endpoints: EndpointRow[] };

/** A tunnel in a list. */
type Found = {
  tunnelId: string;
  tenant: string;
  user: string | null;
  url: string;
  connectedSince: string;
  events: number;
  pushBytes: number;
  lastError: string | null;
};

type FoundPage = { tunnels: Found[]; nextCursor: string | null };

type Tunnel = {
  tunnelId: string;
  tenant: string;
  url: string | null;
  profile: string;
  user: string | null;
  groups: string[];
  node: string;
  connectedSince: string;
  queues: { events: number; eventBytes: number; pushBytes: number };
  endpoint: { inFlight: number; inFlightLimit: number; waiting: number };
  lastError: string | null;
};

type TenantRow = {
  id: string;
  serverHost?: string;
  openTunnels: number;
  tunnelsEverywhere: number;
  pendingCloses: number;
  limits: Record<string, number>;
  refused: number;
  throttled: number;
  keys: { fingerprint: string; lastUsed: string | null }[];
  uses: { name: string; used: number; limit: number }[];
  delivered: number;
  failed: number;
  p99Ms: number | null;
};

type TenantPage = { tenants: TenantRow[]; count: number; nextCursor?: string };

/** A record of a timeline. */
type Line = {
  time: string;
  type: string;
  failed: boolean;
  node: string;
  tenant?: string;
  tunnel?: string;
  event?: string;
  sequence?: number;
  attempt?: number;
  url?: string;
  status?: number;
  code?: string;
  detail?: string;
  ms?: number;
  bytes?: number;
  targets?: number;
  accepted?: number;
};

type Story = {
  isOn: boolean;
  records: Line[];
  before: number | null;
  nodes: { node: string | null; sinceMs: number | null; isComplete: boolean; gap: string | null }[];
};

/** Sentences by code: meaning in English and Chinese, what to do in English and Chinese. */
type Reasons = Record<string, [string, string, string, string]>;

/** One frame of the stream. */
type Frame = {
  pulse: Pulse;
  skipped: number;
  endpoints?: (Figures & { key: string })[];
  tunnel?: Tunnel;
  news?: { lines: Line[]; skipped: number };
};

/** An open page: the view of its stream, and what it does with a frame and every ten seconds. */
type Page = { view?: string; load?: () => Promise<void>; frame?: (frame: Frame) => void };

/** What the shell gives a page. */
type Shell = { overview: () => Overview | null };

/** A figure of the first page: how it is shown at a moment, and the lines of its sparkline, of these kinds. */
type Card = {
  name: string;
  href: string;
  kinds: string[];
  value: (pulse: Pulse) => string;
  note: (pulse: Pulse, failedLately: number) => string;
  lines: (series: Series) => (number | null)[][];
  isBad?: (pulse: Pulse) => boolean;
};

/** A receive URL on the page: takes new figures every second, and a whole row every ten. */
type Shown = { node: HTMLElement; figures: (row: Figures) => void; row: (row: EndpointRow) => void };

/** Shows a page of the address: what is behind its name, and the query. */
type Show = (main: HTMLElement, rest: string, query: URLSearchParams, shell: Shell) => Page;

/** A failure that is shown, with the facts of a report about it. */
type Trouble = {
  code: string;
  reason?: string;
  level?: string;
  when?: string;
  href?: string;
  facts?: Record<string, string | number | null | undefined>;
};

/** Follows a stream: calls these with each frame, and whenever it opens or is lost. */
type Follow = (view: string, onFrame: (frame: Frame) => void, onState: (isOpen: boolean) => void) => { close(): void };
