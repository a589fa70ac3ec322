/* An HTTP server as many boards have it: one thread, one request at a time, keep-alive, and answers in two writes.
 *
 *     two_writes WRITES HEAVY        2: head and body by a send() each, with Nagle's algorithm on; 1: by one
 *
 * It listens on a loopback port of the system's choice, prints it, and ends when its standard input does. HEAVY
 * multiplies the work of the template routes, which is a fixed number of steps and not a time: beside other work
 * it takes longer, as a board's does beside an interrupt. "/cost?heavy=1.8" changes it while the server runs.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_OPEN 16 /* further clients wait in the backlog */
#define HEAD_BYTES 4096
#define SMALL_BYTES 1200
#define LARGE_BYTES 16000
#define HEAVY_STEPS 6000000.0 /* of a template: some 6 ms */
#define LIGHT_STEPS 500000.0  /* of anything else: or the client would be the limit */

struct client {
    int fd;
    size_t used;
    char head[HEAD_BYTES + 1];
};

static struct client clients[MAX_OPEN];
static int open_clients;
static int writes = 2;
static double heavy = 1.0;
static char large[LARGE_BYTES];
static volatile unsigned sink;

static void work(double steps)
{
    unsigned value = 1;
    for (long step = (long)steps; step > 0; step--)
        value = value * 1103515245u + 12345u;
    sink = value;
}

static int send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, 0); /* at most as long as SO_SNDTIMEO says */
        if (sent <= 0)
            return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

static int answer(int fd, const char *status, const char *type, const char *body, size_t size)
{
    static char out[512 + LARGE_BYTES];
    int head = snprintf(out, 512, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status, type, size);
    if (writes == 2)
        return send_all(fd, out, (size_t)head) && send_all(fd, body, size);
    memcpy(out + head, body, size);
    return send_all(fd, out, (size_t)head + size);
}

/* Whether the path is the route, with or without a query. */
static int is(const char *path, const char *route)
{
    size_t length = strlen(route);
    return strncmp(path, route, length) == 0 && strchr(" ?", path[length]) != NULL;
}

/* Answer one request; 0 where the connection is to be closed. */
static int serve(int fd, const char *request)
{
    char body[SMALL_BYTES];
    const char *path = request + 4, *json = "application/json";
    if (strncmp(request, "GET /", 5) != 0)
        return answer(fd, "405 Method Not Allowed", "text/plain", "GET only", 8) && 0;
    if (!is(path, "/template") && !is(path, "/template-compat"))
        work(LIGHT_STEPS);
    if (is(path, "/hello"))
        return answer(fd, "200 OK", "text/plain", "hello", 5);
    if (is(path, "/api/ping"))
        return answer(fd, "200 OK", json, "{\"ok\": true}", 12);
    if (is(path, "/file") || is(path, "/static/large.txt"))
        return answer(fd, "200 OK", "text/plain", large, LARGE_BYTES);
    if (is(path, "/template") || is(path, "/template-compat")) {
        work(HEAVY_STEPS * heavy);
        memset(body, 'x', sizeof body);
        return answer(fd, "200 OK", "text/html", body, sizeof body);
    }
    if (is(path, "/cost")) {
        if (strncmp(path, "/cost?heavy=", 12) == 0)
            heavy = atof(path + 12);
        return answer(fd, "200 OK", json, body, (size_t)snprintf(body, sizeof body, "{\"heavy\": %g}", heavy));
    }
    if (is(path, "/deps") || is(path, "/query-typed")) {
        int size = snprintf(body, sizeof body, "{\"server\": \"two_writes\", \"writes\": %d, \"heavy\": %g}", writes, heavy);
        return answer(fd, "200 OK", json, body, (size_t)size);
    }
    return answer(fd, "404 Not Found", "text/plain", "no such route", 13);
}

/* Read what is there and answer each whole request in it; 0 where the connection is to be closed. */
static int readable(struct client *client)
{
    ssize_t got = recv(client->fd, client->head + client->used, HEAD_BYTES - client->used, 0);
    char *end;
    if (got <= 0)
        return 0;
    client->used += (size_t)got;
    client->head[client->used] = '\0';
    while ((end = strstr(client->head, "\r\n\r\n")) != NULL) {
        *end = '\0';
        if (!serve(client->fd, client->head) || strstr(client->head, "\r\nConnection: close") != NULL)
            return 0;
        client->used -= (size_t)(end + 4 - client->head);
        memmove(client->head, end + 4, client->used + 1);
    }
    return client->used < HEAD_BYTES;
}

static void take(int listener)
{
    struct timeval patience = {5, 0};
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    clients[open_clients].fd = fd;
    clients[open_clients].used = 0;
    open_clients++;
}

int main(int count, char **words)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (count != 3)
        return 2;
    writes = atoi(words[1]);
    heavy = atof(words[2]);
    memset(large, 'x', sizeof large);
    signal(SIGPIPE, SIG_IGN);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 8) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd polled[MAX_OPEN + 2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        int open_now = open_clients;
        if (open_now == MAX_OPEN)
            polled[1].fd = -1;
        for (int i = 0; i < open_now; i++)
            polled[i + 2] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        if (poll(polled, (nfds_t)open_now + 2, -1) < 0 || polled[0].revents)
            return 0;
        for (int i = open_now - 1; i >= 0; i--) /* from behind: the last one takes the place of one that ends */
            if (polled[i + 2].revents && !readable(&clients[i])) {
                close(clients[i].fd);
                clients[i] = clients[--open_clients];
            }
        if (polled[1].revents)
            take(listener);
    }
}
