<?php
// A chat business server for wafergate: PHP 8, nothing else. Webhooks are verified by Standard Webhooks in eight lines; with
// composer the package standard-webhooks/standard-webhooks does the same.
//
//   GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 PHP_CLI_SERVER_WORKERS=4 php -S 127.0.0.1:3000 chat.php
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".

define('GATEWAY', getenv('GATEWAY') ?: 'http://127.0.0.1:8080');
define('TENANT', getenv('TENANT') ?: 'shop');
define('SECRET', base64_decode(substr(getenv('KEY'), strlen('whsec_'))));
define('WEBHOOK_URL', getenv('WEBHOOK_URL') ?: 'http://127.0.0.1:' . (getenv('PORT') ?: '3000') . '/events');

// Calls the gateway, signed by RFC 9421.
function call(string $method, string $path, array $value): array
{
    $body = json_encode($value);
    $digest = 'sha-256=:' . base64_encode(hash('sha256', $body, true)) . ':';
    $params = '("@method" "@path" "content-digest");created=' . time() . ';keyid="' . TENANT . '";nonce="'
        . bin2hex(random_bytes(16)) . '";alg="hmac-sha256"';
    $base = "\"@method\": $method\n\"@path\": $path\n\"content-digest\": $digest\n\"@signature-params\": $params";
    $signature = base64_encode(hash_hmac('sha256', $base, SECRET, true));
    $headers = ["Content-Type: application/json", "Content-Digest: $digest", "Signature-Input: s=$params", "Signature: s=:$signature:"];
    $http = ['method' => $method, 'header' => $headers, 'content' => $body, 'ignore_errors' => true];
    $answer = file_get_contents(GATEWAY . $path, false, stream_context_create(['http' => $http]));
    return [(int) explode(' ', $http_response_header[0])[1], json_decode($answer, true)];
}

// Whether a webhook is signed by one of the signatures it brings, and not old.
function is_signed(string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '0';
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", SECRET, true));
    $given = explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '');
    return abs(time() - (int) $timestamp) < 300
        && array_filter($given, fn (string $signature): bool => hash_equals($expected, $signature)) !== [];
}

function to_chat(string $type, array $content): array
{
    return ['to' => ['group' => 'chat'], 'type' => $type, 'content' => $content];
}

// What an event is answered with: actions save a request of our own.
function answer_to(array $event): array
{
    $user = $event['userid'] ?? null;
    switch ($event['type']) {
        case 'wafergate.tunnel.connected':
            return ['actions' => [['push' => to_chat('joined', ['user' => $user])]]];
        case 'wafergate.tunnel.message':
            return ['actions' => [['push' => to_chat('said', ['user' => $user, 'text' => $event['data'] ?? null])]]];
        case 'wafergate.tunnel.closed': // The last one leaves an empty group behind: 404 group_unknown is fine.
            call('POST', '/v1/push', to_chat('left', ['user' => $user, 'reason' => $event['data']['reason']]));
    }
    return ['ok' => true];
}

$body = file_get_contents('php://input');
[$status, $value] = match (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    '/tunnel' => call('POST', '/v1/tunnels', ['user' => $_GET['user'], 'groups' => ['chat'], 'webhookUrl' => WEBHOOK_URL]),
    '/events' => is_signed($body) ? [200, answer_to(json_decode($body, true))] : [400, ['error' => 'not signed']],
    default => [404, ['error' => 'not found']],
};
http_response_code($status);
header('Content-Type: application/json');
echo json_encode($value);
