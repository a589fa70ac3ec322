/* The load bench's own device: answers every request after an exact service time, which begins when all of it,
 * its body too, has come.
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

enum { MOST = 4096, EVENTS = 64 };

struct answer {
    int64_t due_ns;
    int64_t number; /* of the request: answers due at once keep their order */
    int fd;
    int64_t life; /* of the connection: a descriptor may have been given out anew */
};

static struct answer heap[MOST];
static int waiting;
static int64_t served[MOST], life[MOST];
static int64_t left[MOST]; /* bytes of a request's body that are yet to come */

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

static void fail(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: %s fifo|parallel SERVICE_NS EVERY_NS LENGTH_NS CLOSE_AFTER BODY_BYTES WRITES\n", argv[0]);
        return 2;
    }
    int fifo = !strcmp(argv[1], "fifo");
    int64_t service_ns = atoll(argv[2]), every_ns = atoll(argv[3]), length_ns = atoll(argv[4]);
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
    int64_t origin_ns = now_ns(), last_ns = 0, count = 0;
    int open = 0;
    static char request[65536 + 1];
    for (;;) {
        while (waiting && heap[0].due_ns <= now_ns()) {
            struct answer due = pop();
            if (due.life != life[due.fd]) continue;
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
                served[fd] = left[fd] = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                open++;
                continue;
            }
            ssize_t got = recv(fd, request, sizeof request - 1, 0);
            if ((got <= 0 && !(got < 0 && errno == EAGAIN)) || waiting == MOST) {
                end(fd);
                open--;
            } else if (got > 0 && completes(fd, request, got)) {
                int64_t now = now_ns(), begin = fifo && last_ns > now ? last_ns : now;
                int64_t into = every_ns ? (begin - origin_ns) % every_ns : length_ns;
                if (into < length_ns) begin += length_ns - into;
                last_ns = begin + service_ns;
                push((struct answer){last_ns, count++, fd, life[fd]});
            }
        }
    }
}
