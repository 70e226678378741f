//! Every reason: number, code, outcome, and sentence and fix in both languages.

use super::Language;
use super::Outcome;
use super::Words;

/// Declares every reason.
macro_rules! reasons {
    ($(
        $(#[doc = $doc:literal])*
        $number:literal $reason:ident $code:literal $outcome:ident
            $english:literal, $english_fix:literal;
            $chinese:literal, $chinese_fix:literal;
    )*) => {
        /// Why something happened. The numbers travel between nodes: they stay as they are.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])* $reason = $number,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The reason with this number; `None` for one of a newer version.
            pub fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$reason),)*
                    _ => None,
                }
            }

            /// Its name for programs.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$reason => $code,)*
                }
            }

            /// What it says about the outcome.
            pub fn outcome(self) -> Outcome {
                match self {
                    $(Self::$reason => Outcome::$outcome,)*
                }
            }

            /// Sentence and fix.
            pub fn words(self, language: Language) -> Words {
                match (self, language) {
                    $(
                        (Self::$reason, Language::English) => Words { sentence: $english, fix: $english_fix },
                        (Self::$reason, Language::Chinese) => Words { sentence: $chinese, fix: $chinese_fix },
                    )*
                }
            }
        }
    };
}

reasons! {
    /// The kind says it all.
    0 None "" Fine
        "", "";
        "", "";

    // 1-19: as it should be.

    /// An event was delivered.
    1 Delivered "delivered" Fine
        "the business server has accepted it", "";
        "业务服务器已接受", "";
    /// A push was accepted.
    2 Accepted "accepted" Fine
        "on its way to the client", "";
        "正在发往客户端", "";
    /// A push was passed to the node of the tunnel.
    3 PassedOn "passed_on" Fine
        "the tunnel is on another node, which has taken it", "";
        "信道在另一个节点上，那个节点已经收下", "";
    /// An action was executed.
    4 Done "done" Fine
        "done", "";
        "已完成", "";
    /// The tunnel is in a group from now on.
    5 Joined "joined" Fine
        "in this group from now on", "";
        "从现在起在这个组里", "";
    /// The tunnel left a group.
    6 Left "left" Fine
        "no longer in this group", "";
        "不再在这个组里", "";
    /// The tunnel belongs to a user from now on.
    7 UserSet "user_set" Fine
        "of this user from now on", "";
        "从现在起属于这个用户", "";

    // 20-39: requests for a tunnel.

    /// The receive URL is not one.
    20 UrlInvalid "receive_url_invalid" Failed
        "the receive URL cannot be used", "give an absolute http or https URL with a valid host; ServerHost in the SDK has neither scheme nor brackets nor, for most SDKs, a port";
        "回调地址无法使用", "应为完整的 http 或 https 地址，主机要有效；SDK 的 ServerHost 不带协议、方括号，多数 SDK 也不带端口";
    /// The host of the receive URL is not the tenant's.
    21 HostNotOwned "host_not_owned" Failed
        "the host of the receive URL does not belong to this tenant", "ServerHost in the SDK must be the host of the receive URL, or list it in receive_hosts";
        "回调地址的主机不属于这个租户", "SDK 的 ServerHost 必须就是回调地址的主机，或者把它写进 receive_hosts";
    /// The address is not public.
    22 AddressBlocked "address_blocked" Failed
        "the address of the business server is not public", "add it to webhook.allow_networks to allow it";
        "业务服务器的地址不是公网地址", "把它写进 webhook.allow_networks 才会放行";
    /// The operator denies the address.
    23 AddressDenied "address_denied" Failed
        "the operator has denied the address of the business server", "use another address, or take it out of webhook.deny_networks";
        "运维拒绝了业务服务器的地址", "换一个地址，或把它从 webhook.deny_networks 里去掉";
    /// The port is not a web server's.
    24 PortBlocked "port_blocked" Failed
        "the port belongs to another service than a web server", "add it to webhook.allow_ports to allow it";
        "这个端口属于别的服务，不是 Web 服务器", "把它写进 webhook.allow_ports 才会放行";
    /// The tenant has its maximum number of tunnels.
    25 TooManyTunnels "too_many_tunnels" Failed
        "the tenant has as many tunnels open or asked for as it may", "close those that are not needed, or raise limits.connections";
        "租户打开和申请的信道已达上限", "关闭不需要的信道，或调大 limits.connections";
    /// Too many close events wait.
    26 TooManyPending "too_many_pending" Failed
        "too many tunnels wait for their close event to be accepted", "let the business server accept close events, or raise webhook.max_pending_closes";
        "等待关闭事件被接受的信道太多", "让业务服务器接受关闭事件，或调大 webhook.max_pending_closes";
    /// The tenant has too many groups and users.
    27 TooManyNames "too_many_groups" Failed
        "the tenant has too many groups and users", "use fewer or shorter names";
        "租户的组和用户太多", "减少名字，或用更短的名字";
    /// No descriptors are left.
    28 NoDescriptors "no_descriptors" Failed
        "this gateway has no descriptors left", "raise its limit of open files, or try again";
        "网关的文件描述符已用完", "调大它的打开文件数上限，或稍后再试";
    /// The node is draining.
    29 Draining "draining" Failed
        "this gateway ends", "ask for a new tunnel";
        "网关正在退出", "重新申请信道";
    /// The engine does not answer.
    30 EngineAway "engine_away" Failed
        "this gateway is cut off from its engine", "try again; if it lasts, look at Redis and the network to it";
        "网关与引擎断开了", "稍后再试；持续不恢复就检查 Redis 和到它的网络";
    /// The caller is not authenticated.
    31 CredentialsWrong "credentials_wrong" Failed
        "the call is not signed with a key of the tenant", "compare tenant id and key on both sides; the log of the gateway says which one is wrong";
        "调用没有用租户的密钥签名", "核对两边的租户 ID 和密钥；网关的日志写明是哪一个不对";

    // 40-59: handshakes.

    /// The connect URL is not of this gateway, or was altered.
    40 TicketUnknown "unknown_ticket" Failed
        "this connect URL was not issued by this gateway, or it has been changed", "ask for a new tunnel";
        "连接地址不是这个网关发的，或者被改过", "重新申请信道";
    /// The connect URL was used before.
    41 TicketUsed "ticket_used" Failed
        "this connect URL has been used", "it is good for one connection, ask for a new tunnel";
        "连接地址已经用过", "一个地址只能连一次，重新申请信道";
    /// The connect URL has expired.
    42 TicketExpired "ticket_expired" Failed
        "this connect URL has expired", "ask for a new tunnel";
        "连接地址已过期", "重新申请信道";
    /// The tenant is not configured any more.
    43 TenantGone "tenant_gone" Failed
        "the tenant of this connect URL is gone", "configure it again, or ask for a tunnel of another one";
        "连接地址的租户已经不在了", "重新配置它，或用别的租户申请信道";
    /// The session has ended.
    44 SessionEnded "session_ended" Failed
        "the session of this connect URL has ended", "log in and ask for a new tunnel";
        "连接地址的会话已经结束", "重新登录，再申请信道";
    /// The session store does not answer.
    45 SessionStoreAway "session_store_away" Failed
        "the gateway cannot check the session of this connect URL at present", "ask for a new tunnel";
        "网关目前无法核对连接地址的会话", "重新申请信道";
    /// No subprotocol in common.
    46 SubprotocolUnacceptable "subprotocol_unacceptable" Failed
        "the client offers only subprotocols that the tenant does not have", "add one of them to subprotocols of the tenant, or empty that list";
        "客户端提供的子协议租户都没有", "把其中一个写进租户的 subprotocols，或清空那个列表";
    /// Not a WebSocket handshake.
    47 UpgradeRequired "upgrade_required" Failed
        "the request is no WebSocket handshake", "let the proxy in front pass Upgrade and Connection on, over HTTP/1.1";
        "请求不是 WebSocket 握手", "让前面的代理用 HTTP/1.1 转发 Upgrade 和 Connection";
    /// Another version of the protocol.
    48 WebsocketVersion "websocket_version" Failed
        "the client speaks another version of WebSocket", "use version 13 (RFC 6455)";
        "客户端用的是别的 WebSocket 版本", "使用版本 13（RFC 6455）";
    /// A handshake with a defect.
    49 BadHandshake "bad_handshake" Failed
        "the WebSocket handshake is not valid", "correct the header that the detail names";
        "WebSocket 握手无效", "改正说明里写的那个请求头";

    /// The page of the client is of an origin that the tenant does not allow.
    50 OriginRefused "origin_refused" Failed
        "the web page that connects is of an origin that the tenant does not allow", "add the origin to allow_origins of the tenant";
        "发起连接的网页来源不在租户允许之列", "把这个来源写进租户的 allow_origins";
    /// The business server has withdrawn the tunnel.
    51 TunnelWithdrawn "tunnel_withdrawn" Failed
        "the tunnel of this connect URL was withdrawn by its business server", "ask for a new tunnel";
        "业务服务器已撤回连接地址的信道", "重新申请信道";
    /// The nodes have different keys.
    52 OtherTicketKey "other_ticket_key" Failed
        "this node has another server.ticket_key than the others", "give every node the same one";
        "这个节点的 server.ticket_key 与其他节点不同", "让每个节点用同一个";
    /// Connectors are off.
    53 ConnectorsOff "connectors_off" Failed
        "connectors are off for this tenant", "leave out the name, or set connectors of the tenant to named";
        "这个租户没有启用连接器", "去掉名字，或把租户的 connectors 设成 named";
    /// A node of the last release is still running.
    54 UpgradeRunning "upgrade_running" Failed
        "a node of the last release, which does not know connectors, is still running", "try again when all nodes are upgraded";
        "还有上一版本的节点在运行，它不认识连接器", "等所有节点升级后再试";

    // 60-109: attempts.

    /// The name does not resolve.
    60 DnsFailed "dns_failed" Failed
        "the host of the receive URL does not resolve", "correct its name, or its DNS entry";
        "回调地址的主机名解析不出来", "改正主机名，或它的 DNS 记录";
    /// The connection was refused.
    61 ConnectRefused "connect_refused" Failed
        "connection refused", "start the business server, or correct host and port of the receive URL";
        "连接被拒绝", "启动业务服务器，或改正回调地址的主机和端口";
    /// No route.
    62 Unreachable "host_unreachable" Failed
        "host unreachable", "check routes and firewalls between gateway and business server";
        "主机不可达", "检查网关到业务服务器的路由和防火墙";
    /// The connection was not answered.
    63 ConnectTimeout "connect_timeout" Failed
        "connection timed out", "check the firewalls in between: packets to that port are dropped";
        "连接超时", "检查中间的防火墙：发往那个端口的包被丢弃了";
    /// The connection failed otherwise.
    64 ConnectFailed "connect_failed" Failed
        "the business server cannot be connected to", "the detail has the system's own words";
        "无法连接业务服务器", "说明里有操作系统的原话";
    /// The certificate has expired.
    66 TlsExpired "tls_expired" Failed
        "certificate expired", "renew it on that server";
        "证书已过期", "在那台服务器上更新证书";
    /// The certificate is not valid yet.
    67 TlsNotYetValid "tls_not_yet_valid" Failed
        "certificate not valid yet", "compare both machines' clocks";
        "证书尚未生效", "核对两台机器的时钟";
    /// The issuer is not known.
    68 TlsUnknownIssuer "tls_unknown_issuer" Failed
        "certificate of an authority that is not known here", "send its intermediate certificates on that server, or add its root to SSL_CERT_FILE";
        "证书的颁发机构在这里不受信任", "在那台服务器上附上中间证书，或把根证书加进 SSL_CERT_FILE";
    /// The certificate is for another name.
    69 TlsWrongName "tls_wrong_name" Failed
        "certificate for another name", "correct it or the URL";
        "证书是别的名字的", "改正证书或回调地址";
    /// Another defect of the certificate.
    70 TlsCertificate "tls_certificate" Failed
        "certificate not valid", "have it issued again as the detail says";
        "证书无效", "按说明重新签发";
    /// No TLS on that port.
    71 TlsNotSpoken "tls_not_spoken" Failed
        "the server does not speak TLS on this port", "write http:// in the receive URL, or correct its port";
        "服务器的这个端口不使用 TLS", "回调地址改用 http://，或改正端口";
    /// Only old versions of TLS.
    72 TlsTooOld "tls_too_old" Failed
        "that server speaks TLS 1.1 or older only", "enable TLS 1.2 or 1.3 there";
        "那台服务器只支持 TLS 1.1 或更旧的版本", "在那里启用 TLS 1.2 或 1.3";
    /// No version or cipher suite in common.
    73 TlsNothingInCommon "tls_nothing_in_common" Failed
        "no TLS version or cipher suite in common, or that server wants a client certificate", "enable TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305 there, and ask for no client certificate";
        "没有共同的 TLS 版本或加密套件，或者那台服务器要求客户端证书", "在那里启用 TLS 1.2 或 1.3 以及 ECDHE 加 AES-GCM 或 ChaCha20-Poly1305，不要求客户端证书";
    /// A client certificate is wanted.
    74 TlsWantsCertificate "tls_wants_certificate" Failed
        "that server wants a client certificate, and none is offered", "turn that off there";
        "那台服务器要求客户端证书，而网关没有", "在那里关掉这个要求";
    /// The handshake failed otherwise.
    75 TlsFailed "tls_failed" Failed
        "the TLS handshake failed", "the detail says how; the log of that server may say why";
        "TLS 握手失败", "说明里写了经过；那台服务器的日志里可能有原因";
    /// Out of time before anything was sent.
    76 TimeoutUnsent "timeout_unsent" Failed
        "no connection in time, nothing was sent", "check the network to the business server, or raise webhook.timeout_ms";
        "没能及时建立连接，什么都没发出", "检查到业务服务器的网络，或调大 webhook.timeout_ms";
    /// Out of time after the request was sent.
    77 Timeout "timeout" Failed
        "no answer in time", "answer first and work afterwards, or raise webhook.timeout_ms";
        "没有及时响应", "先响应再处理，或调大 webhook.timeout_ms";
    /// The connection ended early.
    78 Lost "connection_lost" Failed
        "the connection was lost before the answer was complete", "look for a crash or restart of the business server, or a proxy that ends connections";
        "响应还没收完连接就断了", "查看业务服务器是否崩溃或重启，或者有代理切断连接";
    /// The answer is not HTTP.
    79 BadAnswer "bad_answer" Failed
        "the answer is not valid HTTP", "check that the port belongs to a web server; the detail names the defect";
        "响应不是有效的 HTTP", "确认端口后面是 Web 服务器；说明里写了哪里不对";
    /// A redirect.
    80 Redirect "redirect" Failed
        "redirects are not followed", "put the address behind the redirect into the receive URL";
        "不跟随重定向", "把重定向之后的地址写进回调地址";
    /// 401 or 403.
    81 Unauthorized "unauthorized" Failed
        "the business server does not let the event in (401, 403)", "exempt the receive URL from logins, CSRF checks and address filters: the signature is its protection";
        "业务服务器不让事件进来（401、403）", "让回调地址免于登录、CSRF 检查和地址过滤：签名就是它的保护";
    /// 404, 405 or 421.
    82 WrongPath "wrong_path" Failed
        "nothing takes events at this path (404, 405, 421)", "correct the path of the receive URL, or the route for POST";
        "这个路径不接收事件（404、405、421）", "改正回调地址的路径，或 POST 的路由";
    /// 408, 425 or 429.
    83 TryLater "try_later" Failed
        "the business server asks for a later attempt (408, 425, 429)", "raise its rate limit for the gateway";
        "业务服务器要求稍后再试（408、425、429）", "调大它对网关的限速";
    /// 503.
    84 Unavailable "unavailable" Failed
        "the business server or its proxy is not available (503)", "start it, or give it more workers";
        "业务服务器或它的代理不可用（503）", "启动它，或增加它的工作进程";
    /// Another 5xx.
    85 ServerError "server_error" Failed
        "the business server failed (5xx)", "its own log has the reason";
        "业务服务器出错（5xx）", "原因在它自己的日志里";
    /// Another status that refuses.
    86 RefusedStatus "refused_status" Failed
        "the business server refuses the event (4xx)", "the detail has the start of its answer; its own log has more";
        "业务服务器拒绝了事件（4xx）", "说明里有响应的开头；它自己的日志里有更多";
    /// A 2xx that is not JSON.
    87 NotJson "not_json" Failed
        "the answer to a Wafer event is not JSON", "answer {\"code\":0}; check that no page of a framework or proxy answers instead";
        "对 Wafer 事件的响应不是 JSON", "响应 {\"code\":0}；确认不是框架或代理的页面在响应";
    /// A 2xx with another code.
    88 CodeNotZero "code_not_zero" Failed
        "the code in the answer is not 0", "answer {\"code\":0} for what you accept; the detail has the start of the answer";
        "响应里的 code 不是 0", "接受时响应 {\"code\":0}；说明里有响应的开头";
    /// The signature was refused.
    89 SignatureRefused "signature_refused" Failed
        "the business server refuses the signature", "use the same key on both sides; the detail has the fingerprint of the gateway's key";
        "业务服务器拒绝了签名", "两边用同一个密钥；说明里有网关密钥的指纹";
    /// A 2xx whose rest cannot be read.
    90 AnswerUnreadable "answer_unreadable" Failed
        "the rest of the answer cannot be read", "the detail says how it ended; look for a crash after the first bytes, or a wrong Content-Length";
        "响应的其余部分读不出来", "说明里写了怎样结束的；查看是否在发出开头后崩溃，或 Content-Length 不对";
    /// Delivered, but the rest of the answer is missing.
    91 DeliveredInPart "delivered_in_part" Failed
        "delivered, but the rest of the answer is missing", "the detail says how it ended; actions in it were lost";
        "已投递，但响应的其余部分缺失", "说明里写了怎样结束的；其中的动作丢失了";
    /// Delivered, but the answer is doubtful.
    92 Doubtful "doubtful_answer" Failed
        "delivered, but hardly to a program that knows this API", "check that the receive URL leads to your program, not to a page of a proxy";
        "已投递，但对方不像是懂这套 API 的程序", "确认回调地址后面是你的程序，而不是代理的页面";

    // 110-129: events that wait or are given up.

    /// Out of time.
    110 Expired "expired" Failed
        "its time is over (message_ttl_secs or close_ttl_secs)", "see the failed attempts before; later events go on";
        "已超过保留时间（message_ttl_secs 或 close_ttl_secs）", "看前面失败的投递；之后的事件继续投递";
    /// The tenant's number of attempts is used up.
    111 MaxAttempts "max_attempts" Failed
        "the last of the tenant's attempts has failed (max_attempts)", "see the failed attempts before, or raise max_attempts";
        "租户的最后一次投递也失败了（max_attempts）", "看前面失败的投递，或调大 max_attempts";
    /// A close was refused for ten minutes.
    112 RefusedTooLong "refused_too_long" Failed
        "a close event was refused for ten minutes", "correct the receive URL or the proxy that refuses";
        "关闭事件被拒绝了十分钟", "改正回调地址，或改正拒绝它的代理";
    /// The breaker is open.
    113 BreakerOpen "breaker_open" Failed
        "business server is down: one probe at a time until it responds", "the failed attempts before say why; nothing is lost until the event's time is over";
        "业务服务器不可用：在它恢复之前一次只探测一个", "原因见前面失败的投递；在事件超时之前什么都不会丢";
    /// The breaker has closed.
    114 BreakerClosed "breaker_closed" Fine
        "the business server responds again", "";
        "业务服务器恢复了", "";
    /// Fewer requests at a time.
    115 Overloaded "overloaded" Failed
        "business server is overloaded: fewer requests at a time", "give it more workers, or answer first and work afterwards";
        "业务服务器过载：减少同时的请求", "增加它的工作进程，或先响应再处理";
    /// A batch is sent singly.
    116 Split "batch_refused" Failed
        "batch refused, its events are sent one by one", "see which of them is refused alone";
        "整批被拒绝，事件改为逐个投递", "看其中哪一个单独被拒绝";
    /// No connector of the name is there.
    117 NoConnector "no_connector" Failed
        "no connector of this name is there", "start wafergate listen with this name, or correct the name";
        "没有这个名字的连接器", "用这个名字启动 wafergate listen，或改正名字";
    /// The connector takes no more for now.
    118 WindowFull "window_full" Failed
        "the connector has as many unanswered events as it takes", "let it answer, or start another one";
        "连接器未答复的事件已达上限", "让它答复，或再启动一个";

    // 130-149: pushes.

    /// The target is not open.
    130 NotOpen "not_open" Failed
        "no such tunnel is open", "forget its id: it is closed, its client never connected, or it is another tenant's";
        "没有打开着的这条信道", "不要再用这个 ID：它已关闭，或客户端从未连接，或属于别的租户";
    /// The node does not answer.
    131 NodeAway "node_away" Failed
        "the node of the tunnel does not answer", "repeat the push; its client reconnects if the node is gone";
        "信道所在的节点没有响应", "重复这次推送；节点如果没了，客户端会重连";
    /// Too many targets.
    132 TooManyTargets "too_many_targets" Failed
        "the push names more tunnels than one may", "send several pushes, use a group, or raise limits.max_push_targets";
        "一次推送的信道太多", "分几次推送，或用组，或调大 limits.max_push_targets";
    /// Too large.
    133 TooLarge "too_large" Failed
        "the push is larger than half of an outbox", "send less at a time, or raise tunnel.outbox_bytes";
        "推送内容超过发送队列的一半", "一次少发一些，或调大 tunnel.outbox_bytes";
    /// Too many pushes.
    134 TooFast "too_fast" Failed
        "the tenant has used up its pushes per second", "wait as Retry-After says, or raise limits.pushes_per_sec";
        "租户每秒的推送次数用完了", "按 Retry-After 等待，或调大 limits.pushes_per_sec";
    /// Nobody in the group.
    135 GroupUnknown "group_unknown" Failed
        "no open tunnel is in the group", "check its name; clients that reconnect must join again";
        "组里没有打开着的信道", "核对组名；重连的客户端要重新加入";
    /// No tunnel of the user.
    136 UserUnknown "user_unknown" Failed
        "the user has no open tunnel", "check the name; the client may be offline";
        "用户没有打开着的信道", "核对名字；客户端可能不在线";

    // 150-159: actions.

    /// An action failed.
    150 ActionFailed "action_failed" Failed
        "an action in the webhook response failed", "the detail says why";
        "响应里的一个动作失败了", "说明里写了原因";
    /// The actions cannot be read.
    151 ActionsInvalid "actions_invalid" Failed
        "invalid actions in webhook response, ignored", "correct the JSON as the detail says; the event counts as delivered";
        "响应里的动作无效，已忽略", "按说明改正 JSON；事件算已投递";
    /// The tenant was removed.
    152 TenantOut "tenant_out" Failed
        "the tenant was removed from the configuration", "configure it again to have its actions executed";
        "租户已从配置里删除", "重新配置它，动作才会执行";

    // 160-179: ends of tunnels.

    /// The client said goodbye.
    160 ClientClose "client_close" Fine
        "the client closed it", "";
        "客户端主动关闭", "";
    /// The connection broke.
    161 ClientGone "client_gone" Fine
        "the client's connection ended without a goodbye", "";
        "客户端的连接断开了，没有告别", "";
    /// Silent for too long.
    162 Heartbeat "heartbeat" Failed
        "silent for twice the heartbeat", "look for a lost network or a stopped app; a proxy in between must pass pings on";
        "超过心跳间隔的两倍没有任何数据", "查看是否断网或应用被停止；中间的代理要转发 ping";
    /// Closed by the business server.
    163 PushedClose "pushed_close" Fine
        "closed by the business server", "";
        "业务服务器关闭了它", "";
    /// The client does not read.
    164 SlowConsumer "slow_consumer" Failed
        "the client does not read what is pushed to it", "push less, or raise tunnel.outbox_bytes; the client reconnects";
        "客户端不读推给它的数据", "少推一些，或调大 tunnel.outbox_bytes；客户端会重连";
    /// The client broke the protocol.
    165 ProtocolError "protocol_error" Failed
        "the client broke the WebSocket protocol", "the detail names the fault; use a standard WebSocket library";
        "客户端违反了 WebSocket 协议", "说明里写了错误；使用标准的 WebSocket 库";
    /// A message over the limit.
    166 TooBig "too_big" Failed
        "the client sent a message over the limit", "send less at a time, or raise tunnel.max_message_bytes";
        "客户端发的消息超过上限", "一次少发一些，或调大 tunnel.max_message_bytes";
    /// Too many messages.
    167 RateLimited "rate_limited" Failed
        "the client sent more messages or frames than it may", "send less often, or raise limits.messages_per_sec_per_connection";
        "客户端发的消息或帧超过限速", "降低频率，或调大 limits.messages_per_sec_per_connection";
    /// The node drains.
    168 Drain "drain" Fine
        "the gateway restarts, the client reconnects", "";
        "网关重启，客户端会重连", "";
    /// A fault of the gateway.
    169 Internal "internal" Failed
        "an error in the gateway", "its log has the details; please report it";
        "网关内部出错", "细节在它的日志里；请报告";
    /// The node died.
    170 NodeLost "node_lost" Failed
        "the node of the tunnel died or was cut off", "look at that node; the client reconnects to another one";
        "信道所在的节点崩溃或被隔离", "查看那个节点；客户端会连到别的节点";
    /// The session was ended.
    171 SessionRevoked "session_revoked" Fine
        "the session that it was opened with was ended", "";
        "打开它的会话已被结束", "";
    /// A newer connection took its place.
    172 Superseded "superseded" Fine
        "a newer connection took its place", "";
        "被更新的连接取代", "";

    // 180-189: clients that are slow, or not read.

    /// The outbox is full.
    180 OutboxFull "outbox_full" Failed
        "the queue towards the client is full: its client does not read", "push less, or raise tunnel.outbox_bytes";
        "发往客户端的队列满了：客户端没有在读", "少推一些，或调大 tunnel.outbox_bytes";
    /// The oldest queued byte is too old.
    181 OutboxTooOld "outbox_too_old" Failed
        "what is queued for the client is too old: its client does not read", "look at its network, or raise tunnel.outbox_age_secs";
        "排给客户端的数据太旧：客户端没有在读", "检查它的网络，或调大 tunnel.outbox_age_secs";
    /// The inbox is full.
    182 InboxFull "inbox_full" Failed
        "client not read for a while: its events wait for the business server", "make the business server faster, or raise tunnel.inbox_bytes";
        "暂时不读客户端：它的事件在等业务服务器", "让业务服务器更快，或调大 tunnel.inbox_bytes";
    /// The tenant's rate is used up.
    183 TenantRate "messages_per_sec" Failed
        "client not read for a while: its tenant has reached messages_per_sec", "send less often, or raise limits.messages_per_sec";
        "暂时不读客户端：租户已达 messages_per_sec", "降低频率，或调大 limits.messages_per_sec";

    // 200-219: settings and notes.

    /// Payloads are copied for a while.
    200 CaptureOn "capture_on" Fine
        "payloads are copied from now on, for the minutes that were asked for", "";
        "从现在起按要求的分钟数复制消息内容", "";
    /// Payloads are copied no longer.
    201 CaptureEnded "capture_ended" Fine
        "payloads are copied no longer", "";
        "不再复制消息内容", "";
    /// The configuration was read again.
    202 Reloaded "reloaded" Fine
        "the configuration was reloaded", "";
        "配置已重新加载", "";
    /// A connector is there.
    203 ConnectorJoined "connector_joined" Fine
        "a connector takes events from now on", "";
        "连接器从现在起接收事件", "";
    /// A connector is gone.
    204 ConnectorLeft "connector_left" Fine
        "the connection of a connector has ended", "";
        "连接器的连接已结束", "";
}
