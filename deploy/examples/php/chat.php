<?php
// A chat business server for wafergate: PHP 8, nothing else. Webhooks are verified by Standard Webhooks in eight lines; with
// composer the package standard-webhooks/standard-webhooks does the same.
//
//   GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 PHP_CLI_SERVER_WORKERS=4 php -S 127.0.0.1:3000 chat.php
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
// Requests are signed, so the key itself never travels: a bearer key would be shorter, but only TLS or loopback may carry one.

define('GATEWAY', getenv('GATEWAY') ?: 'http://127.0.0.1:8080');
define('TENANT', getenv('TENANT') ?: 'shop');
define('SECRET', base64_decode(substr(getenv('KEY'), strlen('whsec_'))));
define('WEBHOOK_URL', getenv('WEBHOOK_URL') ?: 'http://127.0.0.1:' . (getenv('PORT') ?: '3000') . '/events');

function hmac(string $text): string
{
    return base64_encode(hash_hmac('sha256', $text, SECRET, true));
}

// Posts to the gateway, signed by RFC 9421.
function post(string $path, array $value): array
{
    $body = json_encode($value);
    $digest = 'sha-256=:' . base64_encode(hash('sha256', $body, true)) . ':';
    [$created, $tenant, $nonce] = [time(), TENANT, bin2hex(random_bytes(16))];
    $params = "(\"@method\" \"@path\" \"content-digest\");created=$created;keyid=\"$tenant\";nonce=\"$nonce\";alg=\"hmac-sha256\"";
    $signature = hmac("\"@method\": POST\n\"@path\": $path\n\"content-digest\": $digest\n\"@signature-params\": $params");
    $headers = ["Content-Type: application/json", "Content-Digest: $digest", "Signature-Input: s=$params", "Signature: s=:$signature:"];
    $http = ['method' => 'POST', 'header' => $headers, 'content' => $body, 'ignore_errors' => true];
    $answer = file_get_contents(GATEWAY . $path, false, stream_context_create(['http' => $http]));
    return [(int) explode(' ', $http_response_header[0])[1], json_decode($answer, true)];
}

// Whether a webhook is signed by one of the signatures it brings, and not old.
function is_signed(string $body): bool
{
    [$id, $time] = [$_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '0'];
    $expected = 'v1,' . hmac("$id.$time.$body");
    $given = explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '');
    return abs(time() - (int) $time) < 300 && array_filter($given, fn ($signature) => hash_equals($expected, $signature));
}

// What an event is answered with: the gateway does what the answer asks for, so we need no request of our own.
function answer_to(array $event): array
{
    [$type, $more] = match ($event['type']) {
        'wafergate.tunnel.connected' => ['joined', []],
        'wafergate.tunnel.message' => ['said', ['text' => $event['data'] ?? null]],
        'wafergate.tunnel.closed' => ['left', ['reason' => $event['data']['reason']]],
    };
    $content = ['user' => $event['userid'] ?? null] + $more;
    return ['actions' => [['push' => ['to' => ['group' => 'chat'], 'type' => $type, 'content' => $content]]]];
}

$body = file_get_contents('php://input');
[$status, $value] = match (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    '/tunnel' => post('/v1/tunnels', ['user' => $_GET['user'] ?? null, 'groups' => ['chat'], 'webhookUrl' => WEBHOOK_URL]),
    '/events' => is_signed($body) ? [200, answer_to(json_decode($body, true))] : [400, ['error' => 'not signed']],
    default => [404, ['error' => 'not found']],
};
http_response_code($status);
header('Content-Type: application/json');
echo json_encode($value);
