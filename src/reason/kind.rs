//! What happened, as records of timelines name it.

use super::Language;

/// Declares every kind: number, name, and its word in both languages.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $number:literal $kind:ident $name:literal $english:literal $chinese:literal;)*) => {
        /// What happened. The numbers travel between nodes: they stay as they are.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind = $number,)*
        }

        impl Kind {
            /// Every kind, in the order in which they usually happen.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The kind with this number; `None` for one of a newer version.
            pub fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// Its name for programs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Its word for people.
            pub fn word(self, language: Language) -> &'static str {
                match (self, language) {
                    $((Self::$kind, Language::English) => $english, (Self::$kind, Language::Chinese) => $chinese,)*
                }
            }
        }
    };
}

kinds! {
    /// A business server asked for the tunnel.
    1 Requested "requested" "requested" "申请";
    /// A request, handshake or push was refused.
    2 Refused "refused" "refused" "拒绝";
    /// The client connected.
    3 Connected "connected" "connected" "已连接";
    /// An event was sent to the business server, with this result.
    4 Attempt "attempt" "attempt" "投递";
    /// An event waits: its business server is down, or no connector is there.
    5 Waiting "waiting" "waiting" "等待";
    /// An event was given up.
    6 GivenUp "given_up" "given up" "放弃";
    /// A message or close of the business server.
    7 Push "push" "push" "推送";
    /// An action in a webhook response, or a change of groups and users.
    8 Action "action" "action" "动作";
    /// The client does not read.
    9 Slow "slow" "slow" "缓慢";
    /// The client is not read for a while.
    10 ReadingPaused "reading_paused" "paused" "暂停读取";
    /// The client is read again.
    11 ReadingResumed "reading_resumed" "reading" "恢复读取";
    /// The tunnel has ended.
    12 Closed "closed" "closed" "关闭";
    /// The client has gone, and may come back within its window.
    13 Suspended "suspended" "suspended" "挂起";
    /// The client has come back.
    14 Resumed "resumed" "resumed" "恢复";
    /// Another process or node serves the tunnel from now on.
    15 TakenOver "taken_over" "taken over" "接管";
    /// A connector came, went or claimed URLs.
    16 Connector "connector" "connector" "连接器";
    /// A setting changed, or payloads are copied.
    17 Config "config" "config" "配置";
    /// Something else that explains what follows.
    18 Note "note" "note" "说明";
    /// A session of a user began, was checked or ended.
    19 Session "session" "session" "会话";
}
