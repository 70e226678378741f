<?php
// A business server that dials out to wafergate: PHP 8, nothing else. It repeats what a client says.
//   GATEWAY=https://ws.example.com TENANT=shop KEY=whsec_... NAME=shop php connector.php
$url = parse_url(getenv('GATEWAY') ?: 'http://127.0.0.1:8080') + ['port' => null];
[$name, $bearer] = [getenv('NAME') ?: 'shop', (getenv('TENANT') ?: 'shop') . ':' . getenv('KEY')];
[$instance, $session, $is_tls] = [bin2hex(random_bytes(16)), null, $url['scheme'] === 'https'];

function answer_to(array $event): array {
    $said = $event['type'] === 'wafergate.tunnel.message';
    return ['actions' => $said ? [['push' => ['content' => 'you said: ' . ($event['data'] ?? '')]]] : []];
}

function send($stream, int $opcode, string $payload): void {
    [$length, $mask] = [strlen($payload), random_bytes(4)];
    $size = $length < 126 ? pack('C', 128 | $length) : ($length < 65536 ? pack('Cn', 254, $length) : pack('CJ', 255, $length));
    fwrite($stream, chr(128 | $opcode) . $size . $mask . ($payload ^ str_pad('', $length, $mask)));
}

function read($stream, int $length): string {
    for ($data = ''; ($missing = $length - strlen($data)) > 0; $data .= $part)
        strlen($part = (string) fread($stream, $missing)) ?: throw new RuntimeException('the connection ended, or nothing came for 45 s');
    return $data;
}

function messages($stream): Generator {
    for ($parts = '';;) {
        [1 => $first, 2 => $second] = unpack('C2', read($stream, 2));
        $length = match ($second & 127) { 126 => unpack('n', read($stream, 2))[1], 127 => unpack('J', read($stream, 8))[1], default => $second & 127 };
        $payload = read($stream, $length);
        if (($first & 15) === 9) send($stream, 10, $payload);
        if (($first & 15) < 3) $parts .= $payload;
        if ($first < 136 && $first & 128) {
            yield $parts;
            $parts = '';
        }
    }
}

while (true) {
    try {
        $address = ($is_tls ? 'ssl' : 'tcp') . "://{$url['host']}:" . ($url['port'] ?? ($is_tls ? 443 : 80));
        $stream = @stream_socket_client($address, $code, $error, 10) ?: throw new RuntimeException($error);
        stream_set_timeout($stream, 45);
        fwrite($stream, "GET /v1/connector HTTP/1.1\r\nHost: {$url['host']}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " . base64_encode(random_bytes(16)) . "\r\nSec-WebSocket-Protocol: wafergate.connector.v1\r\nAuthorization: Bearer $bearer\r\n\r\n");
        str_contains($status = (string) fgets($stream), ' 101 ') ?: throw new RuntimeException("refused: $status");
        while (trim((string) fgets($stream)) !== '');
        send($stream, 1, json_encode(['type' => 'hello', 'v' => 1, 'name' => $name, 'instance' => $instance, 'purpose' => 'serve', 'take' => ['named' => true], 'window' => ['events' => 256, 'bytes' => 4 << 20], 'agent' => 'connector.php'] + array_filter(['session' => $session])));
        foreach (messages($stream) as $message) {
            [$head, $event] = array_map(fn ($part) => json_decode($part, true), explode("\n", $message, 2) + [1 => 'null']);
            if ($head['type'] === 'welcome') echo 'ready ', $session = $head['session'], "\n";
            if ($head['type'] !== 'event') continue;
            $answer = ['type' => 'answer', 'id' => $head['id'], 'attempt' => $head['attempt'], 'status' => 200, 'ms' => 0];
            send($stream, 1, json_encode($answer) . "\n" . json_encode(answer_to($event)));
        }
    } catch (RuntimeException $failure) {
        usleep(random_int(200_000, 1_000_000) * print("{$failure->getMessage()}\n")); // print returns 1
    }
}
