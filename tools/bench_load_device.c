/* The load bench's own device: answers every request after an exact service time, which begins when all of it,
 * its body too, has come. A request that asks for a WebSocket gets one at once, and each message of less than 126 bytes
 * is then sent back after that time.
 *
 *     cc -O2 -o device tools/bench_load_device.c && ./device fifo 2000000 0 0 0 64 1
 *
 * Arguments: mode (fifo: one request at a time; parallel: each by itself), service time in ns, a stall of
 * LENGTH ns in which nothing is served once per EVERY ns (0 0 for never), requests after which a connection is
 * closed without a word (0 for never), the length of the bodies in bytes, and by how many writes an answer is sent:
 * 1, or 2 (head and body, with Nagle's algorithm on, as ESP-IDF's esp_http_server sends them). It listens on a
 * loopback port of the system's choice, and prints it.
 *
 * Completion times come from a virtual queue and not from sleeps, and the clock is polled without a pause: the
 * machine's wake-up errors do not add up, and what an interpreter would take for twelve answers that are due
 * at once does not show as the generator's error. It needs a core of its own. Linux only (epoll).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, EVENTS = 64, LONGEST = 125, SHA1_BYTES = 20, CLOSE = 8 };

struct answer {
    int64_t due_ns;
    int64_t number; /* of the request: answers due at once keep their order */
    int fd;
    int64_t life; /* of the connection: a descriptor may have been given out anew */
    int size;     /* of a WebSocket's frame; 0 for an answer to a request */
    char frame[LONGEST + 2];
};

static struct answer heap[MOST];
static int waiting;
static int64_t served[MOST], life[MOST];
static int64_t left[MOST]; /* bytes of a request's body that are yet to come */
static int speaks[MOST];   /* whether a connection is a WebSocket */
static char part[MOST][LONGEST + 6];
static int parts[MOST]; /* bytes of a frame that has not come whole */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int before(const struct answer *a, const struct answer *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void push(struct answer item) {
    int place = waiting++;
    while (place && before(&item, &heap[(place - 1) / 2])) {
        heap[place] = heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    heap[place] = item;
}

static struct answer pop(void) {
    struct answer first = heap[0], last = heap[--waiting];
    int place = 0;
    for (;;) {
        int child = 2 * place + 1;
        if (child >= waiting) break;
        if (child + 1 < waiting && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = last;
    return first;
}

static void end(int fd) {
    life[fd]++;
    close(fd); /* which takes it out of the epoll set */
}

/* Whether a piece completes a request. Heads are small, and so come whole; at most one request is in flight. */
static int completes(int fd, char *piece, int64_t got) {
    if (!left[fd]) {
        piece[got] = 0;
        char *end_of_head = strstr(piece, "\r\n\r\n"), *length = strcasestr(piece, "\r\ncontent-length:");
        if (!end_of_head) return 0;
        left[fd] = length && length < end_of_head ? atoll(length + 17) : 0;
        got -= end_of_head + 4 - piece;
    }
    left[fd] = left[fd] > got ? left[fd] - got : 0;
    return !left[fd];
}

static uint32_t rotated(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

/* SHA-1 (FIPS 180-4) of a short text: of a key and the GUID of RFC 6455, two blocks. */
static void sha1(const char *text, unsigned char digest[SHA1_BYTES]) {
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char data[128] = {0};
    size_t size = strlen(text), blocks = (size + 8) / 64 + 1;
    memcpy(data, text, size);
    data[size] = 0x80;
    for (int i = 0; i < 4; i++) data[blocks * 64 - 1 - i] = size * 8 >> 8 * i;
    for (size_t block = 0; block < blocks; block++) {
        uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        for (int i = 0; i < 16; i++) {
            unsigned char *at = data + block * 64 + i * 4;
            w[i] = (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            uint32_t k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
            uint32_t next = rotated(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotated(b, 30), b = a, a = next;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
    }
    for (int i = 0; i < SHA1_BYTES; i++) digest[i] = state[i / 4] >> (24 - i % 4 * 8);
}

/* Send the answer that switches protocols; 0 where a request asks for none, and -1 where it cannot be sent. */
static int switches(int fd, char *request) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *key = strcasestr(request, "\r\nsec-websocket-key:"), text[100], answer[256];
    unsigned char digest[SHA1_BYTES + 1] = {0};
    if (!key || sscanf(key + 20, " %32[^\r]", text) != 1) return 0;
    sha1(strcat(text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"), digest);
    int size = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: ");
    for (int i = 0; i < SHA1_BYTES; i += 3) {
        uint32_t bits = digest[i] << 16 | digest[i + 1] << 8 | (i + 2 < SHA1_BYTES ? digest[i + 2] : 0);
        for (int j = 18; j >= 0; j -= 6) answer[size++] = letters[bits >> j & 63];
    }
    size += sprintf(answer + size - 1, "=\r\n\r\n") - 1;
    speaks[fd] = 1;
    return send(fd, answer, size, MSG_NOSIGNAL) == size ? 1 : -1;
}

/* Take a whole frame out of what has come of a connection: the frame of its echo, or 0. */
static int take_frame(int fd, char *echo) {
    char *came = part[fd];
    int size = parts[fd] > 1 ? came[1] & 127 : 0;
    if (parts[fd] < 6 || parts[fd] < size + 6) return 0;
    echo[0] = came[0];
    echo[1] = size;
    for (int i = 0; i < size; i++) echo[2 + i] = came[6 + i] ^ came[2 + i % 4];
    parts[fd] -= size + 6;
    memmove(came, came + size + 6, parts[fd]);
    return size + 2;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int fifo;
static int64_t service_ns, every_ns, length_ns, origin_ns, last_ns;

/* When what came now is answered. */
static int64_t due_of(int64_t now) {
    int64_t begin = fifo && last_ns > now ? last_ns : now;
    int64_t into = every_ns ? (begin - origin_ns) % every_ns : length_ns;
    if (into < length_ns) begin += length_ns - into;
    return last_ns = begin + service_ns;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: %s fifo|parallel SERVICE_NS EVERY_NS LENGTH_NS CLOSE_AFTER BODY_BYTES WRITES\n", argv[0]);
        return 2;
    }
    fifo = !strcmp(argv[1], "fifo");
    service_ns = atoll(argv[2]), every_ns = atoll(argv[3]), length_ns = atoll(argv[4]);
    int64_t close_after = atoll(argv[5]);
    int body = atoi(argv[6]), split = atoi(argv[7]) == 2, head, first;
    char *reply = malloc(body + 128);
    head = sprintf(reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", body);
    memset(reply + head, 'x', body);
    first = split ? head : head + body;

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    if (bind(listener, (struct sockaddr *)&place, size) || listen(listener, 512)) fail("listen");
    getsockname(listener, (struct sockaddr *)&place, &size);
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);

    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    int64_t count = 0;
    origin_ns = now_ns();
    int open = 0;
    static char request[65536 + 1];
    for (;;) {
        while (waiting && heap[0].due_ns <= now_ns()) {
            struct answer due = pop();
            if (due.life != life[due.fd]) continue;
            if (due.size) {
                if (send(due.fd, due.frame, due.size, MSG_NOSIGNAL) < 0 || (due.frame[0] & 15) == CLOSE) {
                    end(due.fd);
                    open--;
                }
                continue;
            }
            int failed = send(due.fd, reply, first, MSG_NOSIGNAL) < 0;
            if (split) failed |= send(due.fd, reply + first, body, MSG_NOSIGNAL) < 0;
            if (failed || ++served[due.fd] == close_after) {
                end(due.fd);
                open--;
            }
        }
        int found = epoll_wait(poll, ready, EVENTS, open ? 0 : 200);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                if (fd >= MOST) {
                    close(fd);
                    continue;
                }
                if (!split) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                served[fd] = left[fd] = speaks[fd] = parts[fd] = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                open++;
                continue;
            }
            ssize_t got = recv(fd, request, sizeof request - 1, 0);
            int64_t now = now_ns();
            if ((got <= 0 && !(got < 0 && errno == EAGAIN)) || waiting == MOST) {
                end(fd);
                open--;
            } else if (got > 0 && speaks[fd]) {
                for (ssize_t at = 0; at < got;) {
                    struct answer echo = {0, 0, fd, life[fd], 0, ""};
                    int room = sizeof part[fd] - parts[fd], more = got - at < room ? got - at : room;
                    memcpy(part[fd] + parts[fd], request + at, more);
                    parts[fd] += more;
                    at += more;
                    while (waiting < MOST && (echo.size = take_frame(fd, echo.frame))) {
                        echo.due_ns = due_of(now);
                        echo.number = count++;
                        push(echo);
                    }
                    if (!more) fail("a frame that is too long");
                }
            } else if (got > 0 && completes(fd, request, got)) {
                int switched = switches(fd, request);
                if (switched < 0) {
                    end(fd);
                    open--;
                } else if (!switched)
                    push((struct answer){due_of(now), count++, fd, life[fd], 0, ""});
            }
        }
    }
}
