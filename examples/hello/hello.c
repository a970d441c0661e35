#include <stdio.h>

int main(void)
{
	printf("hello from %zu-bit b9\n", sizeof(void *) * 8);
	return 0;
}
